-- Give back the place of an exchange that was in flight.
-- KEYS[1]  exchanges in flight (ZSET)
-- ARGV[1]  id of this exchange
-- ARGV[2]  with how many in flight others may be waiting: they are told
-- ARGV[3]  the app's channel
-- returns  1, or 0 if it had no place any more
local n = redis.call('ZCARD', KEYS[1])
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
if n >= num(ARGV[2]) then tell_app(ARGV[3], 'free', now_ms()) end
return 1
