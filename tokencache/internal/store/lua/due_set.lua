-- Say when a grant that was taken is to be looked at next, unless it was brought nearer
-- meanwhile, or came back and was taken again. A pair that was scheduled for later meanwhile
-- left no trace here: the caller reads the record after this.
-- KEYS[1]  due set (ZSET)
-- ARGV[1]  tenant
-- ARGV[2]  the score with which it was taken
-- ARGV[3]  unix ms of the next look; "" for never
-- returns  1, or 0 if the score is another; a repeat gets 0 too
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score or num(score) ~= num(ARGV[2]) then return 0 end
if ARGV[3] == '' then redis.call('ZREM', KEYS[1], ARGV[1])
else redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1]) end
return 1
