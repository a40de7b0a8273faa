-- Replaces a session's state if it is still the version that the caller's was derived from; TTL, receipt, audit record
-- and notification in the same step.
--
-- KEYS  1 session hash   2 receipt   3 outbox
-- ARGV  1 operation id   2 session id   3 event type   4 body (JSON)   5 TTL of the key in ms
--       6 receipt TTL in ms   7 outbox limit   8 PUBLISH or SPUBLISH   9 session channel   10 lane channel
--       11 expected incarnation   12 expected version
-- reply {0, incarnation, version, created_us, updated_us}  updated
--       {1, incarnation, version}                          another version is stored
--       {2}                                                there is no such session
--       {3, depth}                                         the outbox is full
--       {4}                                                what is stored under the key is not a session
--       {5}                                                this operation was given up (see resolve.lua)
--
-- Lua does not roll back: everything is checked before the first write, and the first write (XADD) is the one that
-- the server may refuse for memory. The message is what watchers read and what the audit records.
local call = redis.call

local receipt = call('GET', KEYS[2])
if receipt then
  -- A write, so that a WAIT that follows on this connection waits for the one before it, which came on another.
  call('PEXPIRE', KEYS[2], ARGV[6])
  return cmsgpack.unpack(receipt)
end

local stored = call('HMGET', KEYS[1], 'n', 'v', 'c', 'o', 'u')
local incarnation, version, created = tonumber(stored[1]), tonumber(stored[2]), tonumber(stored[3])
if stored[1] ~= ARGV[11] or stored[2] ~= ARGV[12] then
  if not (incarnation and version) then
    return {call('EXISTS', KEYS[1]) == 0 and 2 or 4}
  end
  -- Its own work, whose receipt is gone: a clock that jumped, or a server that stood still.
  if stored[4] == ARGV[1] and created then
    call('PEXPIRE', KEYS[1], ARGV[5])
    return {0, incarnation, version, created, tonumber(stored[5])}
  end
  return {1, incarnation, version}
end
-- What a caller expects are digits, so incarnation and version are; beyond 10^14 a version would be written as 1e+14.
if not created or not string.find(stored[3], '^%d+$') or version >= 1e14 then
  return {4}
end

local depth = call('XLEN', KEYS[3])
if depth >= tonumber(ARGV[7]) then
  return {3, depth}
end

-- Microseconds stay below 2^53 until the year 2255, so a double holds them; %.0f keeps Lua from writing 1.7e+15.
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
local time = string.format('%.0f', now)
version = version + 1

local message = '{"i":"' .. ARGV[2] .. '","k":"update","e":"' .. ARGV[3] .. '","o":"' .. ARGV[1] .. '","n":'
  .. stored[1] .. ',"v":' .. version .. ',"c":' .. stored[3] .. ',"u":' .. time .. ',"s":' .. ARGV[4] .. '}'
call('XADD', KEYS[3], '*', 'm', message)
call('HSET', KEYS[1], 'v', version, 'o', ARGV[1], 'u', time, 's', ARGV[4])
call('PEXPIRE', KEYS[1], ARGV[5])
local reply = {0, incarnation, version, created, now}
call('SET', KEYS[2], cmsgpack.pack(reply), 'PX', ARGV[6])
call(ARGV[8], ARGV[9], message)
call(ARGV[8], ARGV[10], message)
return reply
