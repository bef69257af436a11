-- Note that an API refused the current access token, and judge whether that may force
-- an exchange: an API that refuses every token must not cost one each time.
-- KEYS[1]  grant record (HASH)
-- KEYS[2]  sealed pair (STRING)
-- KEYS[3]  journal (STREAM)
-- ARGV[1]  events channel
-- ARGV[2]  journal length
-- ARGV[3]  who reports it
-- ARGV[4]  epoch whose access token was refused
-- ARGV[5]  generation whose access token was refused
-- ARGV[6]  fingerprint of that access token
-- ARGV[7]  ms without a refusal after which earlier ones are forgotten
-- ARGV[8]  age in ms from which an access token is not fresh: it has worked for a while,
--          so its end forces an exchange at once and makes the row no longer
-- ARGV[9]  percent of its life that such a token must have had before it, to have died early
-- ARGV[10] generations in a row that died early from which another program uses the grant too
-- ARGV[11] age in ms below which the end of an access token tells nothing of how long they live; 0: none does
-- ARGV[12] percent by which two such ages may differ and still be the same
-- ARGV[13] percent of that age which is taken for the life, once so many generations in a row as
--          ARGV[10] says have died at it
-- ARGV[14…] after the n-th exchange in a row that was forced so: ms until the next may be;
--          the last holds for all that follow
-- returns  {status, now, record, sealed pair if moved}: "ok" (force one; a repeat for the
--          same generation is answered alike), "none", "moved" (it is not the current
--          one any more), "dead" (not active), "wait" (reject_at is ahead: suspect)
local now = now_ms()
local r, bad = load(KEYS[1], now)
if bad then return reply(bad, now, {}) end
if not r.gen then return reply('none', now, {}) end
if num(r.epoch) ~= num(ARGV[4]) or num(r.gen) ~= num(ARGV[5]) or r.at_fp ~= ARGV[6] then
  return reply('moved', now, r, pair_of(KEYS[2]))
end
if r.state ~= 'active' then return reply('dead', now, r) end
if r.rejected_gen == r.gen then return reply('ok', now, r) end

local n, wait = num(r.rejects), num(r.reject_at)
-- Over for long, or longer than any wait: this clock was set back since.
if now > wait + num(ARGV[7]) or wait > now + num(ARGV[#ARGV]) + num(ARGV[8]) then n, wait = 0, 0 end
local aged = now - num(r.issued_at) >= num(ARGV[8])
if n > 0 and now < wait and not aged then
  if r.reason ~= 'suspect' then
    save(KEYS[1], r, { reason = 'suspect' })
    announce(KEYS[3], ARGV[2], ARGV[1], 'suspect', now, r, ARGV[3], 'several access tokens in a row were refused')
  end
  return reply('wait', now, r)
end
if n == 0 or not aged then n = n + 1 end
local set = {
  rejects = int(n), rejected_gen = r.gen,
  reject_at = int(now + num(ARGV[math.min(13 + n, #ARGV)])),
}
-- A generation that an API refused before has not worked since, and its age says nothing.
local worked = r.reason ~= 'suspect'
-- It has worked, and died long before its end. Once may be an admin's doing; again and again at the
-- same age it is how long they live, whatever was said; else it is a program that refreshes this grant too.
local age = now - num(r.issued_at)
local same = false
if worked and num(ARGV[11]) > 0 and age >= num(ARGV[11]) and now < num(r.refresh_at) then
  same = lived(set, r, math.floor(age / 1000), num(ARGV[12]), num(ARGV[13]), num(ARGV[10]))
  if same and not string.find(set.lived, 'x', 1, true) then set.reason = 'wrong_lifetime' end
end
local early = worked and aged and 100 * (num(r.expires_at) - now) > num(ARGV[9]) * (num(r.expires_at) - num(r.issued_at))
if early and same then
  if r.foreign then set.foreign_gen = r.gen end -- no further sign of it, and none that it is over
elseif early and foreign(set, r) >= num(ARGV[10]) then
  set.reason = 'external_rotation'
end
save(KEYS[1], r, set)
announce(KEYS[3], ARGV[2], ARGV[1], 'reject', now, r, ARGV[3], 'an API refused the access token')
if set.reason then
  announce(KEYS[3], ARGV[2], ARGV[1], 'suspect', now, r, ARGV[3], set.reason)
end
return reply('ok', now, r)
