-- Read a grant: record and sealed pair of one moment.
-- KEYS[1]  grant record (HASH)
-- KEYS[2]  sealed pair (STRING)
-- returns  {status, now, record, sealed pair}: "ok", "none"
local r = load(KEYS[1])
if not r.gen then return reply('none', now_ms(), {}) end
return reply('ok', now_ms(), r, redis.call('GET', KEYS[2]))
