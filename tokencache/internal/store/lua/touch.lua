-- Note that a grant's access token is in use. No state change: nobody is told.
-- KEYS[1]  grant record (HASH)
-- ARGV[1]  ms within which an earlier note is as good
-- returns  {now, used_at}: used_at is "" for a grant that is not active
local now = now_ms()
local r = redis.call('HMGET', KEYS[1], 'state', 'used_at', 'v')
if r[1] ~= 'active' or num(r[3]) > schema then return { int(now), '' } end
if now - num(r[2]) < num(ARGV[1]) then return { int(now), r[2] } end
redis.call('HSET', KEYS[1], 'used_at', int(now))
return { int(now), int(now) }
