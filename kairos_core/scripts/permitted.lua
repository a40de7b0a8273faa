-- Names the first command that this account may not run on the keys and channels of a lane; '' where there is none.
-- A script that is refused a command in its middle has written half of what it should have.
--
-- KEYS  1 session hash   2 receipt   3 outbox   4 deadlines   5 the lane's latest incarnation
-- ARGV  1 PUBLISH or SPUBLISH   2 session channel   3 lane channel
-- reply a command's name, or ''
for _, words in ipairs({
  {'HMGET', KEYS[1], 'n'}, {'HSET', KEYS[1], 'n', '1'}, {'EXISTS', KEYS[1]}, {'PEXPIRE', KEYS[1], '1'},
  {'PTTL', KEYS[1]}, {'DEL', KEYS[1]}, {'GET', KEYS[2]}, {'SET', KEYS[2], '', 'PX', '1'},
  {'XADD', KEYS[3], '*', 'm', ''}, {'XLEN', KEYS[3]}, {'ZADD', KEYS[4], '1', 'a'}, {'ZREM', KEYS[4], 'a'},
  {'ZRANGE', KEYS[4], '0', '-1'}, {'GET', KEYS[5]}, {'SET', KEYS[5], '1'}, {'TIME'},
  {ARGV[1], ARGV[2], ''}, {ARGV[1], ARGV[3], ''},
}) do
  if not redis.acl_check_cmd(unpack(words)) then
    return words[1] .. (words[2] and ' ' .. words[2] or '')
  end
end
return ''
