-- Ends a session whose time has come: audit record (with the last state) and notification in the same step.
--
-- The key itself lives longer than the session, so that the state is still there to be recorded; its own TTL only takes
-- away what no sweep came for. A session is due when what is left of its key is no more than that grace.
--
-- KEYS  1 session hash   2 outbox   3 deadlines
-- ARGV  1 operation id   2 session id   3 event type   4 grace in ms   5 outbox limit
--       6 PUBLISH or SPUBLISH   7 session channel   8 lane channel
-- reply {0}         expired
--       {1}         not due yet, or without end: looked at again when it is
--       {2}         there is no such session (any more), or what is there is none
--       {3, depth}  the outbox is full
--
-- Lua does not roll back: everything is checked before the first write, and the first write is the one that the
-- server may refuse.
local call = redis.call

local clock = call('TIME')
local ttl = call('PTTL', KEYS[1])
local left = ttl - ARGV[4]
if ttl == -1 then
  -- Another hand took its end away. Any write gives it back; until then it is only looked at now and then.
  left = ARGV[4]
end
if tonumber(left) > 0 then
  -- Looked at once in a grace at the least: a write by a process with a shorter TTL has moved the end to before this.
  left = math.min(left, ARGV[4])
  -- Taking away needs no memory, and after a first write none is refused, so the index moves on where memory is full.
  call('ZREM', KEYS[3], ARGV[2])
  call('ZADD', KEYS[3], clock[1] * 1000 + math.floor(clock[2] / 1000) + left, ARGV[2])
  return {1}
end

-- What is of another type is an error, and is none of ours.
local stored = redis.pcall('HMGET', KEYS[1], 'n', 'v', 'c', 's')
-- What does not read as a session must not become a record that nobody can read.
local is_session = stored[4] and pcall(cjson.decode, stored[4])
for field = 1, 3 do
  is_session = is_session and stored[field] and string.find(stored[field], '^%d+$')
end
if not is_session or tonumber(stored[2]) >= 1e14 then
  call('ZREM', KEYS[3], ARGV[2])
  return {2}
end

local depth = call('XLEN', KEYS[2])
if depth >= tonumber(ARGV[5]) then
  return {3, depth}
end

local time = string.format('%.0f', clock[1] * 1000000 + clock[2])
local message = '{"i":"' .. ARGV[2] .. '","k":"expire","e":"' .. ARGV[3] .. '","o":"' .. ARGV[1] .. '","n":'
  .. stored[1] .. ',"v":' .. string.format('%.0f', stored[2] + 1) .. ',"c":' .. stored[3] .. ',"u":' .. time .. ',"s":'
call('ZREM', KEYS[3], ARGV[2])
call('XADD', KEYS[2], '*', 'm', message .. stored[4] .. '}')
call('DEL', KEYS[1])
call(ARGV[6], ARGV[7], message .. 'null}')
call(ARGV[6], ARGV[8], message .. 'null}')
return {0}
