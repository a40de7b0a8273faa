-- Restores a session that was lost, from what the audit has of it, as version 1 of a new incarnation: state, TTL, audit
-- record and notification in one step. Never over a session that is there.
--
-- KEYS  1 session hash   2 outbox   3 deadlines   4 the lane's latest incarnation
-- ARGV  1 operation id   2 session id   3 event type   4 body (JSON)   5 TTL of the key in ms
--       6 outbox limit   7 PUBLISH or SPUBLISH   8 session channel   9 lane channel
--       10 when the sweep is to look at it first, in ms   11 the new incarnation
--       12 what the lane's latest incarnation must be: as it was before the audit was read; empty: none
-- reply {0, incarnation}           restored, now or by this very operation before
--       {1, incarnation, version}  exists
--       {2}                        the lane's latest incarnation is another: a session was created meanwhile, and may
--                                  have been this one, and be gone again
--       {3, depth}                 the outbox is full
--       {4}                        what is stored under the key is not a session
--
-- The caller makes the incarnation, above the expected one and the recorded one, so that it can send many at once, each
-- expecting the one that the one before it leaves. No receipt is kept: only this operation makes this incarnation of this
-- session under this id.
--
-- Lua does not roll back: everything is checked before the first write, and the first write is the one that the server
-- may refuse for memory. The message is what watchers read and what the audit records.
local call = redis.call

if call('EXISTS', KEYS[1]) == 1 then
  local stored = call('HMGET', KEYS[1], 'n', 'v', 'o')
  local incarnation, version = tonumber(stored[1]), tonumber(stored[2])
  if not (incarnation and version) then
    return {4}
  end
  if stored[3] == ARGV[1] then
    return {0, incarnation}
  end
  return {1, incarnation, version}
end

local life = call('GET', KEYS[4]) or ''
if life ~= ARGV[12] or tonumber(ARGV[11]) <= (tonumber(life) or 0) then
  return {2}
end

local depth = call('XLEN', KEYS[2])
if depth >= tonumber(ARGV[6]) then
  return {3, depth}
end

local clock = call('TIME')
local time = clock[1] .. string.sub('00000' .. clock[2], -6)
local message = '{"i":"' .. ARGV[2] .. '","k":"create","e":"' .. ARGV[3] .. '","o":"' .. ARGV[1] .. '","n":'
  .. ARGV[11] .. ',"v":1,"c":' .. time .. ',"u":' .. time .. ',"s":' .. ARGV[4] .. '}'
call('SET', KEYS[4], ARGV[11])
call('ZADD', KEYS[3], clock[1] * 1000 + math.floor(clock[2] / 1000) + ARGV[10], ARGV[2])
call('XADD', KEYS[2], '*', 'm', message)
call('HSET', KEYS[1], 'n', ARGV[11], 'v', 1, 'o', ARGV[1], 'c', time, 'u', time, 's', ARGV[4])
call('PEXPIRE', KEYS[1], ARGV[5])
call(ARGV[7], ARGV[8], message)
call(ARGV[7], ARGV[9], message)
return {0, tonumber(ARGV[11])}
