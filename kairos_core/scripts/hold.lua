-- Takes a lane's lease for a drain, or extends it.
--
-- KEYS  1 lease
-- ARGV  1 token of the holder   2 how long, in ms
-- reply 1  held
--       0  another holds it
local call = redis.call

local holder = call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
