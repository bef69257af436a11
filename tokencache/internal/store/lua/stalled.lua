-- Say that the holder of a claim has gone silent: the claim is unresolved, and nobody has the lease. Nothing is
-- stored: those who watch the app's grants are told.
-- KEYS[1]  grant record (HASH)
-- KEYS[2]  lock (STRING)
-- ARGV[1]  events channel
-- ARGV[2]  id of the claim
-- returns  {status, now, record}: "ok", "none", "moved" (that claim does not stand any more), "held" (somebody
--          has the lease). A repeat tells once more
local now = now_ms()
local r, bad = load(KEYS[1], now)
if bad then return reply(bad, now, {}) end
if not r.gen then return reply('none', now, {}) end
if r.claim_id ~= ARGV[2] then return reply('moved', now, r) end
if redis.call('PTTL', KEYS[2]) ~= -2 then return reply('held', now, r) end
local record = text(r)
tell(ARGV[1], 'stalled', now, record)
return reply('ok', now, record)
