-- Names the first of some commands that this account may not run as they stand, with their keys and channels.
-- A script that is refused a command in its middle has written half of what it should have.
--
-- KEYS  those of the commands
-- ARGV  1 the commands, as JSON: an array of arrays of words
-- reply a command's name, with its first word if it has one; '' where all are permitted
for _, words in ipairs(cjson.decode(ARGV[1])) do
  if not redis.acl_check_cmd(unpack(words)) then
    return words[1] .. (words[2] and ' ' .. words[2] or '')
  end
end
return ''
