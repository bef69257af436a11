-- Record that an exchange failed. A failure is a result: everybody gets it.
-- KEYS[1]  grant record (HASH)
-- KEYS[2]  sealed pair (STRING)
-- KEYS[3]  journal (STREAM)
-- ARGV[1]  events channel
-- ARGV[2]  journal length
-- ARGV[3]  id of this failure
-- ARGV[4]  holder's name
-- ARGV[5]  epoch of the generation that was presented
-- ARGV[6]  generation that was presented
-- ARGV[7]  id of the claim under which it was presented
-- ARGV[8]  "clear": not spent, the claim is resolved; "withdraw": the same, nothing was
--          presented, which is no failure in a row; "keep": perhaps spent, the claim stays
--          unresolved; "dead": verified, the tenant must reauthorize; "again": refused, and
--          presented once more under this claim
-- ARGV[9]  error (class/code/status)
-- ARGV[10] reason
-- ARGV[11] ms until the next try; with "dead" until the first revival, 0 for none; with "again" for
--          which the claim stands
-- ARGV[12] "deadline": with "keep", no next try before the claim's hard deadline
-- ARGV[13] "unknown": no rule knows the answer; the first of a row is dated
-- ARGV[14] by how many ms the deadline comes sooner then, since the exchange has ended: no pair is on its way
-- ARGV[15] how long the exchange took, ms, for the journal; "" for unknown
-- ARGV[16] the provider's request id, for the journal
-- returns  {status, now, record, sealed pair if moved}: "ok", "none", "moved"
--          (another epoch or generation), "claimed" (another holder took over)
-- Of a grant that is dead this was a revival: it stays as dead as it was, for the same reason and
-- since the same time, and nobody is told again.
local now = now_ms()
local r, bad = load(KEYS[1], now)
if bad then return reply(bad, now, {}) end
if not r.gen then return reply('none', now, {}) end
if r.commit_id == ARGV[3] then -- a repeat: its reply was lost
  if ARGV[8] ~= 'again' then told[1] = r.state == 'reauthorize' and 'reauthorize' or 'fail' end
  return reply('ok', now, r)
end
if num(r.epoch) ~= num(ARGV[5]) or num(r.gen) ~= num(ARGV[6]) then
  return reply('moved', now, r, pair_of(KEYS[2]))
end
if r.state == 'reauthorize' and journaled(KEYS[3], ARGV[3]) then return reply('ok', now, r) end
if r.claim_id ~= ARGV[7] then return reply('claimed', now, r) end

local verdict, revival = ARGV[8], r.state == 'reauthorize'
local retry = num(ARGV[11]) > 0 and now + num(ARGV[11]) or 0
local set, kind = {}, 'fail'
if revival then
  kind = 'revival'
  if verdict ~= 'withdraw' then set.revivals = int(num(r.revivals) + 1) end
else
  set.commit_id, set.error, set.error_at = ARGV[3], ARGV[9], int(now)
  if verdict ~= 'again' then set.reason = ARGV[10] end
  if verdict ~= 'again' and verdict ~= 'withdraw' then set.fails = int(num(r.fails) + 1) end
  if ARGV[13] == 'unknown' and not r.refused_at then set.refused_at = int(now) end
end
if verdict == 'again' then
  kind, retry = 'refused', 0
  set.claim_until = int(math.max(num(r.claim_until), now + num(ARGV[11])))
elseif verdict == 'dead' then
  if not revival then
    kind, set.state = 'reauthorize', 'reauthorize'
    -- Refused at its first presentation: its tenant has revoked it, or somebody has used it up.
    if num(r.claim_n) <= 1 then foreign(set, r) end
  end
  clear_claim(set)
elseif verdict == 'keep' then
  if ARGV[12] == 'deadline' then
    local over = math.max(now, num(r.claim_prior), num(r.claim_until) - num(ARGV[14]))
    set.claim_until, retry = int(over), math.max(retry, over)
  else
    set.claim_until = int(math.max(now, num(r.claim_prior))) -- the exchange is over: it brings no pair any more
  end
elseif num(r.claim_n) > 1 then
  -- Our own presentation did not count, but an earlier one is still unresolved.
  set.claim_n = int(num(r.claim_n) - 1)
  set.claim_until = int(math.max(now, num(r.claim_prior))) -- ours is over
else
  clear_claim(set)
end
set.retry_at = retry > 0 and int(retry) or ''
save(KEYS[1], r, set)
local said = { answer = ARGV[9], ms = ARGV[15], req = ARGV[16] }
return reply('ok', now, announce(KEYS[3], ARGV[2], ARGV[1], kind, now, r, ARGV[4], ARGV[10], nil, ARGV[3], said))
