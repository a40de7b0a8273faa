-- Gives a lane's lease back, if it is still this holder's.
--
-- KEYS  1 lease
-- ARGV  1 token of the holder
-- reply 1  given back
--       0  it was another's, or nobody's
local call = redis.call

if call('GET', KEYS[1]) == ARGV[1] then
  return call('DEL', KEYS[1])
end
return 0
