-- Take the grants of one shard that are to be looked at, and put them off: should whoever
-- takes them die, they come back by themselves.
-- KEYS[1]  due set (ZSET): tenant, unix ms of the next look
-- ARGV[1]  how many at most
-- ARGV[2]  ms to look ahead
-- ARGV[3]  ms after which those that are taken come back
-- ARGV[4…] tenants that the caller leaves to others
-- returns  {the score they have now, tenant, the score that it had, …}. A repeat takes the
--          next ones; the first come back.
local now, most = now_ms(), num(ARGV[1])
local back = int(now + num(ARGV[3])) .. '.5' -- the half says that it is taken: not to be had ahead of its time
local out, left = { back }, {}
for i = 4, #ARGV do left[ARGV[i]] = true end
-- Those that are taken and not yet back stand in between: there are few at a time.
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now + num(ARGV[2])), 'WITHSCORES', 'LIMIT', 0, most + 256 + #ARGV)
for i = 1, #due, 2 do
  local score = num(due[i + 1])
  if #out <= 2 * most and (score <= now or score % 1 == 0) and not left[due[i]] then
    redis.call('ZADD', KEYS[1], back, due[i])
    out[#out + 1] = due[i]
    out[#out + 1] = int(math.floor(score))
  end
end
return out
