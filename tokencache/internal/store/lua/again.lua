-- Write a grant's state as it is, so that WAIT waits until replicas have it.
-- KEYS[1]  grant record (HASH)
-- returns  {status, now, record}: "ok"; "none"; "damaged"; "newer" (a later version wrote it)
local now = now_ms()
local r, bad = load(KEYS[1], now)
if bad or not r.gen then return reply(bad or 'none', now, {}) end
again(KEYS[1], r)
return reply('ok', now, r)
