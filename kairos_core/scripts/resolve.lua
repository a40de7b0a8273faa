-- Settles whether a write was applied: if it was not, it never will be.
--
-- A write that was cut off may still wait in a buffer on its way. The receipt that is left here for it makes it answer
-- {5} when it arrives.
--
-- KEYS  1 receipt
-- ARGV  1 operation time in ms   2 receipt TTL in ms   3 how long the write may still be on its way, in ms
-- reply {0}  applied
--       {5}  not applied, now or before
--       {6}  too old, or from another clock: its receipt may have run out
local call = redis.call

local receipt = call('GET', KEYS[1])
if receipt then
  return {receipt == '-' and 5 or 0}
end

-- Half of the time that a receipt is kept, since the operation's time is by its writer's clock.
local clock = call('TIME')
local age = clock[1] * 1000 + math.floor(clock[2] / 1000) - ARGV[1]
if math.abs(age) > ARGV[2] / 2 then
  return {6}
end
call('SET', KEYS[1], '-', 'PX', ARGV[3])
return {5}
