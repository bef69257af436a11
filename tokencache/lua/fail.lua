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
-- ARGV[8]  "clear": not spent, the claim is resolved; "keep": perhaps spent, the
--          claim stays unresolved; "dead": verified, the tenant must reauthorize
-- ARGV[9]  error (class/code/status)
-- ARGV[10] reason
-- ARGV[11] ms until the next try
-- ARGV[12] "deadline": with "keep", no next try before the claim's hard deadline
-- ARGV[13] by how many ms that comes sooner then, since the exchange has ended: no pair is on its way
-- returns  {status, now, record, sealed pair if moved}: "ok", "none", "moved"
--          (another epoch or generation), "claimed" (another holder took over)
local now = now_ms()
local r, bad = load(KEYS[1], now)
if bad then return reply(bad, now, {}) end
if not r.gen then return reply('none', now, {}) end
if r.commit_id == ARGV[3] then return reply('ok', now, r) end -- a repeat: its reply was lost
if num(r.epoch) ~= num(ARGV[5]) or num(r.gen) ~= num(ARGV[6]) then
  return reply('moved', now, r, pair_of(KEYS[2]))
end
if r.claim_id ~= ARGV[7] then return reply('claimed', now, r) end

local retry = now + num(ARGV[11])
local set = {
  commit_id = ARGV[3], reason = ARGV[10], error = ARGV[9], error_at = int(now),
  fails = int(num(r.fails) + 1),
}
if ARGV[8] == 'dead' then
  set.state, retry = 'reauthorize', 0
  -- Refused at its first presentation: its tenant has revoked it, or somebody has used it up.
  if num(r.claim_n) <= 1 then foreign(set, r) end
  clear_claim(set)
elseif ARGV[8] == 'keep' then
  if ARGV[12] == 'deadline' then
    local over = math.max(now, num(r.claim_prior), num(r.claim_until) - num(ARGV[13]))
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
local kind = ARGV[8] == 'dead' and 'reauthorize' or 'fail'
return reply('ok', now, announce(KEYS[3], ARGV[2], ARGV[1], kind, now, r, ARGV[4], ARGV[8] == 'dead' and ARGV[10] or ARGV[9]))
