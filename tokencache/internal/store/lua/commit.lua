-- Commit the pair that an exchange of a generation brought. Judged by generation,
-- not by who holds the lease or the claim: it is the only living pair.
-- KEYS[1]  grant record (HASH)
-- KEYS[2]  sealed pair (STRING)
-- KEYS[3]  spare: sealed pair (STRING)
-- KEYS[4]  journal (STREAM)
-- ARGV[1]  events channel
-- ARGV[2]  journal length
-- ARGV[3]  id of this commit
-- ARGV[4]  holder's name
-- ARGV[5]  epoch of the generation that was exchanged
-- ARGV[6]  generation that was exchanged
-- ARGV[7]  sealed pair
-- ARGV[8]  generation that it is sealed as
-- ARGV[9]  "spare" when the pair is the spare, which is spent by this
-- ARGV[10] ms by which this must put the refresh token's end off, so that a warning of it falls
-- ARGV[11] how long the exchange took, ms, for the journal; "" for unknown
-- ARGV[12] the provider's request id, for the journal
-- ARGV[13] "narrower" if the pair has less of a scope than the one before; for the journal
-- ARGV[14…] record fields of the pair: name, value, …
-- returns  {status, now, record, sealed pair if moved}: "ok"; "moved" (refused: a
--          newer consent, or a sibling won; then the pair is kept as spare);
--          "reseal" (nothing is stored yet: seal it as the generation after the
--          record's); "newer" (a later version wrote the record); "damaged" (so is the
--          record, and the pair beside it is a later consent's: Connect mends that)
local now = now_ms()
local r, bad = load(KEYS[1], now)
if bad == 'newer' then return reply(bad, now, {}) end
local epoch, gen = num(ARGV[5]), num(ARGV[6])
-- The epoch stands in front of a sealed pair: beside a damaged record it tells of a later consent. One
-- from the future is damaged, too: no clock is ahead by a day.
local day = 86400000
local beside = bad and num(string.match(pair_of(KEYS[2]), '^(%d+)\n')) or 0
if beside > epoch and beside < now + day then return reply(bad, now, {}) end
if bad then r = {} end -- the pair is the only living one: it begins the record anew
local set = {}
for i = 14, #ARGV, 2 do set[ARGV[i]] = ARGV[i + 1] end

if r.gen then
  if r.commit_id == ARGV[3] then -- a repeat: its reply was lost
    again(KEYS[1], r)
    told[1] = 'commit'
    return reply('ok', now, r)
  end
  local sibling = epoch == num(r.epoch) and num(r.gen) > gen
  -- A pair that has been spent since is a repeat. One from further back than `spent` reaches is
  -- dead, whatever it is: it could save nothing, and would push out a spare that can.
  local genuine = sibling and set.rt_fp ~= (r.rt_fp or '') and ARGV[9] ~= 'spare'
    and num(r.gen) - gen <= spent_length and not was_spent(r, set.rt_fp) and not journaled(KEYS[4], ARGV[3])
  if genuine and r.state == 'reauthorize' then
    sibling, gen = false, num(r.gen) -- the one that won has died: this one lives on
  elseif genuine then
    redis.call('SET', KEYS[3], ARGV[7])
    announce(KEYS[4], ARGV[2], ARGV[1], 'spare', now, r, ARGV[4], 'a sibling won', nil, ARGV[3])
  end
  -- The consent that this one replaced a moment ago has a newer pair than the one kept for it.
  if epoch < num(r.epoch) and epoch == num(r.spare_epoch) and not journaled(KEYS[4], ARGV[3]) then
    redis.call('SET', KEYS[3], ARGV[7])
    announce(KEYS[4], ARGV[2], ARGV[1], 'spare', now, r, ARGV[4], 'its consent was replaced', nil, ARGV[3])
  end
  -- An older generation or epoch is accepted over too: Redis lost writes.
  if sibling or epoch < num(r.epoch) then
    again(KEYS[1], r) -- it may be this pair, after more than one change
    return reply('moved', now, r, pair_of(KEYS[2]))
  end
end
if num(ARGV[8]) ~= gen + 1 then return reply('reseal', now, r) end

-- Without a record Redis lost its data; a disconnected grant leaves a tombstone.
set.epoch, set.gen = int(epoch), int(gen + 1)
set.state, set.reason, set.by, set.commit_id = 'active', '', ARGV[4], ARGV[3]
set.spent = spend(r, set.rt_fp)
clear_claim(set)
clear_failure(set)
-- The pair that is replaced has lived undisturbed.
if num(r.foreign) > 0 and r.foreign_gen ~= r.gen and r.state == 'active' then set.foreign, set.foreign_gen = '', '' end
-- So has one that was not refused, whatever the age of those before; and a life that is said to be shorter
-- than the one that was learned is believed.
local life, learned = num(set.expires_at) - num(set.issued_at), tonumber(r.lived)
if r.lived and (learned and life > 0 and life < 1000 * learned or not learned and r.rejected_gen ~= r.gen) then set.lived = '' end
if r.warned_at and num(set.rt_expires_at) > num(r.rt_expires_at) + num(ARGV[10]) then set.warned_at = '' end
local why = r.state == 'reauthorize' and 'late successor' or ARGV[13]
local recovered = r.state == 'reauthorize' or num(r.claim_n) > 1 -- of a death, or of a claim that was taken over
if bad then redis.call('DEL', KEYS[1]) end
if bad or r.state == 'disconnected' then redis.call('PERSIST', KEYS[1]); redis.call('PERSIST', KEYS[4]) end
-- A refresh proves that this consent is alive: the pair of the one it replaced is not needed.
if r.spare_epoch or ARGV[9] == 'spare' then redis.call('DEL', KEYS[3]) end
if r.spare_epoch then set.spare_epoch = '' end
save(KEYS[1], r, set)
redis.call('SET', KEYS[2], ARGV[7])
if ARGV[9] == 'spare' then why = 'spare' end
local record = announce(KEYS[4], ARGV[2], ARGV[1], 'commit', now, r, ARGV[4], why, ARGV[7], ARGV[3], { ms = ARGV[11], req = ARGV[12] })
if recovered then tell(ARGV[1], 'recovered', now, record) end
return reply('ok', now, record)
