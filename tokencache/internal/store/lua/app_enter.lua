-- Take one of an app's places for exchanges in flight.
-- KEYS[1]  exchanges in flight (ZSET): id, unix ms from which it counts no more
-- ARGV[1]  id of this exchange
-- ARGV[2]  how many there may be, this one included
-- ARGV[3]  ms after which it has ended for sure
-- returns  {1, 0}, by a repeat too; {0, ms until the first of those in flight has ended for sure}
local now = now_ms()
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', int(now)) -- of processes that died
-- Nobody keeps a place for so long: Redis' clock was set back.
redis.call('ZREMRANGEBYSCORE', KEYS[1], int(now + 2 * num(ARGV[3]) + 60000), '+inf')
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return { 1, 0 } end
if redis.call('ZCARD', KEYS[1]) >= num(ARGV[2]) then
  local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  return { 0, first[2] and num(first[2]) - now or 0 }
end
redis.call('ZADD', KEYS[1], int(now + num(ARGV[3])), ARGV[1])
return { 1, 0 }
