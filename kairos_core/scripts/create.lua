-- Creates a session: state, TTL, receipt, audit record and notification in one step.
--
-- KEYS  1 session hash   2 receipt   3 outbox   4 deadlines   5 the lane's latest incarnation
-- ARGV  1 operation id   2 session id   3 event type   4 body (JSON)   5 TTL of the key in ms
--       6 receipt TTL in ms   7 outbox limit   8 PUBLISH or SPUBLISH   9 session channel   10 lane channel
--       11 when the sweep is to look at it first, in ms; its key lives longer (see expire.lua)
-- reply {0, incarnation, version, created_us, updated_us}  created
--       {1, incarnation, version}                          exists
--       {3, depth}                                         the outbox is full
--       {4}                                                what is stored under the key is not a session
--       {5}                                                this operation was given up (see resolve.lua)
--
-- Lua does not roll back: everything is checked before the first write, and the first write, of the receipt, is the one
-- that the server may refuse for memory. The message is what watchers read and what the audit records. For the receipt,
-- see update.lua.
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

if call('EXISTS', KEYS[1]) == 1 then
  local receipt = call('GET', KEYS[2])
  if receipt then
    return answer(receipt)
  end
  local stored = call('HMGET', KEYS[1], 'n', 'v')
  local incarnation, version = tonumber(stored[1]), tonumber(stored[2])
  if not (incarnation and version) then
    return {4}
  end
  return {1, incarnation, version}
end

local depth = call('XLEN', KEYS[3])
if depth >= tonumber(ARGV[7]) then
  -- Created by this very operation, and deleted since.
  local receipt = call('GET', KEYS[2])
  return receipt and answer(receipt) or {3, depth}
end

-- Microseconds stay below 2^53 until the year 2255, so a double holds them; %d keeps Lua from writing 1.7e+15.
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
local time = string.format('%d', now)
-- The time is what incarnations are made of, so that they rise; and where the clock was put back they rise all the same.
local incarnation = math.max(now, (tonumber(call('GET', KEYS[5])) or 0) + 1)
local life = string.format('%d', incarnation)

if not call('SET', KEYS[2], life .. ' 1 ' .. time .. ' ' .. time, 'NX', 'PX', ARGV[6]) then
  return answer(call('GET', KEYS[2]))
end
local message = '{"i":"' .. ARGV[2] .. '","k":"create","e":"' .. ARGV[3] .. '","o":"' .. ARGV[1] .. '","n":'
  .. life .. ',"v":1,"c":' .. time .. ',"u":' .. time .. ',"s":' .. ARGV[4] .. '}'
call('SET', KEYS[5], life)
-- The earliest that it can expire: later writes move that on, which the sweep finds out when it comes to look.
call('ZADD', KEYS[4], math.floor(now / 1000) + ARGV[11], ARGV[2])
call('XADD', KEYS[3], '*', 'm', message)
call('HSET', KEYS[1], 'n', life, 'v', 1, 'o', ARGV[1], 'c', time, 'u', time, 's', ARGV[4])
call('PEXPIRE', KEYS[1], ARGV[5])
call(ARGV[8], ARGV[9], message)
call(ARGV[8], ARGV[10], message)
return {0, incarnation, 1, now, now}
