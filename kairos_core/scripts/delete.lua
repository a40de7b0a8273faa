-- Deletes a session; receipt, audit record (with the last state) and notification in the same step.
--
-- KEYS  1 session hash   2 receipt   3 outbox   4 deadlines
-- ARGV  1 operation id   2 session id   3 event type   4 unused   5 unused
--       6 receipt TTL in ms   7 outbox limit   8 PUBLISH or SPUBLISH   9 session channel   10 lane channel
--       11 expected incarnation, or empty   12 expected version
-- reply {0, incarnation, version, created_us, updated_us}  deleted: a deletion is a version of its own
--       {1, incarnation, version}                          another version is stored than expected
--       {2}                                                there is no such session
--       {3, depth}                                         the outbox is full
--       {4}                                                what is stored under the key is not a session
--       {5}                                                this operation was given up (see resolve.lua)
--
-- Lua does not roll back: everything is checked before the first write. That one, of the deadlines, takes no memory, so
-- that sessions can be deleted where the memory is full; after a first write, none is refused. Watchers read a message
-- without a state, the audit records the state that was deleted. For the receipt, see update.lua.
local call = redis.call

local function answer(receipt)
  -- A write, so that a WAIT that follows on this connection waits for the one before it, which came on another.
  -- The mark of one that was given up lives for much longer, and must not be cut short.
  if receipt ~= '-' then
    call('PEXPIRE', KEYS[2], ARGV[6])
  end
  local n, v, c, u = string.match(receipt, '(%d+) (%d+) (%d+) (%d+)')
  return n and {0, tonumber(n), tonumber(v), tonumber(c), tonumber(u)} or {5}
end

-- Read first, since a session that is stored may be another than the one that this very operation deleted before.
local receipt = call('GET', KEYS[2])
if receipt then
  return answer(receipt)
end

local stored = call('HMGET', KEYS[1], 'n', 'v', 'c', 's')
-- What does not read as a session must not become a record that nobody can read.
local is_session = stored[4] and pcall(cjson.decode, stored[4])
for field = 1, 3 do
  is_session = is_session and stored[field] and string.find(stored[field], '^%d+$')
end
if not is_session then
  return {call('EXISTS', KEYS[1]) == 0 and 2 or 4}
end
if #stored[2] > 14 then
  return {4}
end
if ARGV[11] ~= '' and (stored[1] ~= ARGV[11] or stored[2] ~= ARGV[12]) then
  return {1, tonumber(stored[1]), tonumber(stored[2])}
end

local depth = call('XLEN', KEYS[3])
if depth >= tonumber(ARGV[7]) then
  return {3, depth}
end

local version = string.format('%d', stored[2] + 1)
local clock = call('TIME')
local time = clock[1] .. string.sub('00000' .. clock[2], -6)

local message = '{"i":"' .. ARGV[2] .. '","k":"delete","e":"' .. ARGV[3] .. '","o":"' .. ARGV[1] .. '","n":'
  .. stored[1] .. ',"v":' .. version .. ',"c":' .. stored[3] .. ',"u":' .. time .. ',"s":'
call('ZREM', KEYS[4], ARGV[2])
call('SET', KEYS[2], stored[1] .. ' ' .. version .. ' ' .. stored[3] .. ' ' .. time, 'PX', ARGV[6])
call('XADD', KEYS[3], '*', 'm', message .. stored[4] .. '}')
call('DEL', KEYS[1])
call(ARGV[8], ARGV[9], message .. 'null}')
call(ARGV[8], ARGV[10], message .. 'null}')
return {0, tonumber(stored[1]), tonumber(version), tonumber(stored[3]), tonumber(time)}
