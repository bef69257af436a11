-- Keep the sealed body of a success in which no pair could be found: it may hold the only living one.
-- KEYS[1]  unread answers (LIST), the newest last
-- ARGV[1]  id of this answer
-- ARGV[2]  epoch, a line feed, the sealed body
-- ARGV[3]  how many answers stay
-- ARGV[4]  ms for which they stay
-- returns  1. A repeat changes nothing.
local kept = redis.pcall('LRANGE', KEYS[1], 0, -1)
if kept.err then redis.call('DEL', KEYS[1]); kept = {} end -- a key of another type
for _, one in ipairs(kept) do
  if one:sub(1, #ARGV[1] + 1) == ARGV[1] .. '\n' then return 1 end
end
redis.call('RPUSH', KEYS[1], ARGV[1] .. '\n' .. ARGV[2])
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[3]), -1)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
