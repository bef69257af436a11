-- Store the first pair of a new consent. Consent wins over everything older. A repeat changes
-- nothing, whatever has happened since: it is known by its id, or by the pair that it brings.
-- KEYS[1]  grant record (HASH)
-- KEYS[2]  sealed pair (STRING)
-- KEYS[3]  spare: sealed pair (STRING)
-- KEYS[4]  journal (STREAM)
-- ARGV[1]  events channel
-- ARGV[2]  journal length
-- ARGV[3]  id of this call
-- ARGV[4]  who connects
-- ARGV[5]  the new epoch, which the pair is sealed with
-- ARGV[6]  sealed pair
-- ARGV[7]  generation that it is sealed as
-- ARGV[8]  "import": only where there is no grant
-- ARGV[9]  ms: the pair of a consent that is younger is kept as spare. Two callbacks can come in
--          the other order, and then the one that is replaced is the living one
-- ARGV[10…] record fields of the pair: name, value, …
-- returns  {status, now, record, sealed pair}: "ok"; "repeat" (this call, or one that brought the
--          same pair, was here before: nothing is changed); "ended" (the same, and the grant has
--          been disconnected since); "spent" (this fleet has redeemed that refresh token);
--          "exists" (import); "moved" (the stored epoch is not older, or the generation is not the
--          next: read and seal again); "newer" (a later version wrote the record)
local now = now_ms()
local r, bad = load(KEYS[1], now)
if bad == 'newer' then return reply(bad, now, {}) end
if not bad and (num(r.gen) > 8e15 or num(r.rev) > 8e15) then bad = 'damaged' end -- there is no next one for long
if bad and ARGV[8] == 'import' then return reply('exists', now, {}) end -- what is damaged was a grant
if bad then r = {} end -- damaged: begin anew
local set = {}
for i = 10, #ARGV, 2 do set[ARGV[i]] = ARGV[i + 1] end
local rt, consent = set.rt_fp or '', (set.rt_fp or '') .. '.' .. set.at_fp:sub(1, 8)

local function stands(status)
  again(KEYS[1], r)
  return reply(status, now, r, pair_of(KEYS[2]))
end

if r.gen then
  if r.consent_id == ARGV[3] or journaled(KEYS[4], ARGV[3]) then return stands('repeat') end
  if ARGV[8] == 'import' then return stands('exists') end
  if rt ~= '' then
    if r.consent_fp == consent then return stands(r.state == 'disconnected' and 'ended' or 'repeat') end
    -- Where the one that came after it has died there is nothing that it could harm.
    if began(r, consent_mark(consent)) and r.state ~= 'reauthorize' then
      return stands(r.state == 'disconnected' and 'ended' or 'repeat')
    end
    if r.state == 'active' and r.rt_fp == rt and r.at_fp == set.at_fp then return stands('repeat') end
    local rotated = (r.consent_fp or ''):sub(1, 13) == rt .. '.' and r.rt_fp ~= rt and r.state ~= 'disconnected'
    if rotated or was_spent(r, rt) then return reply('spent', now, r) end
  end
end
if num(r.epoch) >= num(ARGV[5]) or num(ARGV[7]) ~= num(r.gen) + 1 then return reply('moved', now, r) end

if r.state == 'active' and (r.rt_fp or '') ~= rt and now - num(r.epoch) < num(ARGV[9]) and pair_of(KEYS[2]) ~= '' then
  redis.call('SET', KEYS[3], pair_of(KEYS[2]))
  set.spare_epoch = r.epoch
else
  redis.call('DEL', KEYS[3])
  if r.spare_epoch then set.spare_epoch = '' end
end
set.epoch, set.gen = ARGV[5], ARGV[7]
set.state, set.reason, set.by, set.commit_id = 'active', '', ARGV[4], ARGV[3]
set.consent_id, set.consent_fp, set.past = ARGV[3], consent, past(r)
clear_claim(set)
clear_failure(set)
clear_rejects(set, r)
if r.warned_at then set.warned_at = '' end
if r.lived then set.lived = '' end
if bad then redis.call('DEL', KEYS[1]) end
if bad or r.state == 'disconnected' then redis.call('PERSIST', KEYS[1]); redis.call('PERSIST', KEYS[4]) end
save(KEYS[1], r, set)
redis.call('SET', KEYS[2], ARGV[6])
return reply('ok', now, announce(KEYS[4], ARGV[2], ARGV[1], 'connect', now, r, ARGV[4], '', ARGV[6], ARGV[3]))
