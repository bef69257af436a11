-- Say, once, that a grant's refresh token ends at a fixed date: refreshing does not put
-- that off, a new consent does.
-- KEYS[1]  grant record (HASH)
-- KEYS[2]  sealed pair (STRING)
-- KEYS[3]  journal (STREAM)
-- ARGV[1]  events channel
-- ARGV[2]  journal length
-- ARGV[3]  who says it
-- ARGV[4]  epoch the caller read
-- ARGV[5]  generation the caller read
-- returns  {status, now, record, sealed pair if moved}: "ok" (it is said, by this or an
--          earlier run), "none", "moved" (another epoch or generation), "dead" (not active)
local now = now_ms()
local r, bad = load(KEYS[1], now)
if bad then return reply(bad, now, {}) end
if not r.gen then return reply('none', now, {}) end
if num(r.epoch) ~= num(ARGV[4]) or num(r.gen) ~= num(ARGV[5]) then
  return reply('moved', now, r, pair_of(KEYS[2]))
end
if r.state ~= 'active' then return reply('dead', now, r) end
if num(r.warned_at) == 0 then
  save(KEYS[1], r, { warned_at = int(now) })
  announce(KEYS[3], ARGV[2], ARGV[1], 'reauth_due', now, r, ARGV[3], 'the refresh token ends at rt_expires_at')
end
return reply('ok', now, r)
