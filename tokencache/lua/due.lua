-- Take the grants of one shard that are to be looked at, and move them ahead: should
-- whoever takes them die, they come back by themselves.
-- KEYS[1]  due set (ZSET): tenant, unix ms of the next look
-- ARGV[1]  how many at most
-- ARGV[2]  ms to look ahead
-- ARGV[3]  ms after which those that are taken come back
-- returns  {the score they have now, tenant, …}. A repeat takes the next ones; the first
--          come back.
local ahead = now_ms() + num(ARGV[2])
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(ahead), 'LIMIT', 0, ARGV[1])
local back = int(ahead + num(ARGV[3]))
for _, tenant in ipairs(due) do redis.call('ZADD', KEYS[1], back, tenant) end
return { back, unpack(due) }
