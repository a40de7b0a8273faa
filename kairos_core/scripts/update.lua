-- Replaces a session's state if it is still the version that the caller's was derived from; TTL, receipt, audit record
-- and notification in the same step.
--
-- KEYS  1 session hash   2 receipt   3 outbox
-- ARGV  1 operation id   2 session id   3 event type   4 body (JSON)   5 TTL of the key in ms
--       6 receipt TTL in ms   7 outbox limit   8 PUBLISH or SPUBLISH   9 session channel   10 lane channel
--       11 expected incarnation   12 expected version   13 if given: answer a conflict with what is stored
-- reply {0, incarnation, version, created_us, updated_us}  updated
--       {1, incarnation, version}                          another version is stored
--       {1, n, v, c, u, s}                                 the same with what is stored, as HMGET reads it
--       {2}                                                there is no such session
--       {3, depth}                                         the outbox is full
--       {4}                                                what is stored under the key is not a session
--       {5}                                                this operation was given up (see resolve.lua)
--
-- Lua does not roll back: everything is checked before the first write, and the first write, of the receipt, is the one
-- that the server may refuse for memory. The message is what watchers read and what the audit records.
--
-- The receipt is `incarnation version created_us updated_us`; that of an operation that was given up is `-`. It is looked
-- for only where it can be: an operation that was applied has moved the version on.
local call = redis.call

local stored = call('HMGET', KEYS[1], 'n', 'v', 'c')
if stored[1] ~= ARGV[11] or stored[2] ~= ARGV[12] then
  local receipt = call('GET', KEYS[2])
  if receipt then
    -- A write, so that a WAIT that follows on this connection waits for the one before it, which came on another.
    -- The mark of one that was given up lives for much longer, and must not be cut short.
    if receipt ~= '-' then
      call('PEXPIRE', KEYS[2], ARGV[6])
    end
    local n, v, c, u = string.match(receipt, '(%d+) (%d+) (%d+) (%d+)')
    return n and {0, tonumber(n), tonumber(v), tonumber(c), tonumber(u)} or {5}
  end
  local incarnation, version, created = tonumber(stored[1]), tonumber(stored[2]), tonumber(stored[3])
  if not (incarnation and version) then
    return {call('EXISTS', KEYS[1]) == 0 and 2 or 4}
  end
  -- Its own work, whose receipt is gone: a clock that jumped, or a server that stood still.
  local latest = call('HMGET', KEYS[1], 'o', 'u')
  if latest[1] == ARGV[1] and created then
    call('PEXPIRE', KEYS[1], ARGV[5])
    return {0, incarnation, version, created, tonumber(latest[2])}
  end
  if ARGV[13] then
    return {1, unpack(call('HMGET', KEYS[1], 'n', 'v', 'c', 'u', 's'))}
  end
  return {1, incarnation, version}
end
-- What a caller expects are digits, so incarnation and version are; beyond 10^14 a version would be written as 1e+14.
local created = stored[3]
if not created or not string.find(created, '^%d+$') or #ARGV[12] > 14 then
  return {4}
end

local depth = call('XLEN', KEYS[3])
if depth >= tonumber(ARGV[7]) then
  return {3, depth}
end

-- Text, not numbers: writing a number as text takes longer than all the rest of a line. The time is in microseconds.
local version = string.format('%d', ARGV[12] + 1)
local clock = call('TIME')
local time = clock[1] .. string.sub('00000' .. clock[2], -6)

if not call('SET', KEYS[2], ARGV[11] .. ' ' .. version .. ' ' .. created .. ' ' .. time, 'NX', 'PX', ARGV[6]) then
  return {5}
end
local message = '{"i":"' .. ARGV[2] .. '","k":"update","e":"' .. ARGV[3] .. '","o":"' .. ARGV[1] .. '","n":'
  .. ARGV[11] .. ',"v":' .. version .. ',"c":' .. created .. ',"u":' .. time .. ',"s":' .. ARGV[4] .. '}'
call('XADD', KEYS[3], '*', 'm', message)
call('HSET', KEYS[1], 'v', version, 'o', ARGV[1], 'u', time, 's', ARGV[4])
call('PEXPIRE', KEYS[1], ARGV[5])
call(ARGV[8], ARGV[9], message)
call(ARGV[8], ARGV[10], message)
return {0, tonumber(ARGV[11]), tonumber(version), tonumber(created), tonumber(time)}
