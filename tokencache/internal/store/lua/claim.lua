-- Claim the right to present a generation's refresh token.
-- KEYS[1]  grant record (HASH)
-- KEYS[2]  sealed pair (STRING)
-- KEYS[3]  journal (STREAM)
-- ARGV[1]  events channel
-- ARGV[2]  journal length
-- ARGV[3]  id of this claim
-- ARGV[4]  holder's name
-- ARGV[5]  epoch the caller read
-- ARGV[6]  generation the caller read
-- ARGV[7]  ms until this claim's hard deadline
-- ARGV[8]  how an unresolved claim is taken over: -1 at once; 0 after its hard
--          deadline and the access token's end, or once an API has refused that: then there
--          is nothing to protect; > 0 at once within so many ms of the first presentation,
--          else as with 0
-- ARGV[9]  fingerprint of the refresh token to be presented
-- ARGV[10] replication id of the server that the caller has judged; "" for any
-- ARGV[11] "revival" of a grant that is dead, once its retry_at has come
-- ARGV[12] id of the claim that the caller knows; "" for none
-- ARGV[13] "over" if the access token has ended by the caller's clock
-- ARGV[14] why it is presented, for the journal: "due", "idle", "asked", "refused", "forced"; "" for unsaid
-- returns  {status, now, record, sealed pair if moved}: "ok", "none", "moved"
--          (another epoch or generation), "dead" (not active), "wait" (retry_at is
--          ahead), "claimed" (unresolved, not to be taken over yet), "replaced" (this is
--          another server, which may have lost states; with the pair), "damaged", "newer"
local now = now_ms()
local r, bad = load(KEYS[1], now)
if bad then return reply(bad, now, {}) end
if not r.gen then return reply('none', now, {}) end
if ARGV[10] ~= '' then
  -- Commands can come to another server at any time: only the claim itself can tell.
  local info = redis.pcall('INFO', 'replication')
  if type(info) ~= 'string' or string.match(info, 'master_replid:(%x+)') ~= ARGV[10] then
    return reply('replaced', now, r, pair_of(KEYS[2]))
  end
end
-- After lost writes two pairs can share a generation: the fingerprint tells them apart.
if num(r.epoch) ~= num(ARGV[5]) or num(r.gen) ~= num(ARGV[6]) or (r.rt_fp or '') ~= ARGV[9] then
  return reply('moved', now, r, pair_of(KEYS[2]))
end
if r.claim_id == ARGV[3] then -- a repeat: its reply was lost
  again(KEYS[1], r)
  if num(r.claim_n) > 1 then told[1] = 'takeover' end
  return reply('ok', now, r)
end
local revival = r.state == 'reauthorize' and ARGV[11] == 'revival' and num(r.retry_at) > 0
if r.state ~= 'active' and not revival then return reply('dead', now, r) end
-- As Record.WaitsUntil.
local set_back = num(r.error_at) > now + 2000 or ((r.error or '') == '' and num(r.fails) == 0 and num(r.retry_at) > now + 2000)
if num(r.retry_at) > now and not set_back then return reply('wait', now, r) end

local first, prior, n = now, 0, 0
if r.claim_id and r.claim_id ~= '' then
  local window, at = num(ARGV[8]), num(r.claim_at)
  local set_back = at > now + 2000 -- this clock, since the claim was made
  local harmless = window < 0 or (window > 0 and not set_back and now < at + window)
  if not harmless and set_back then
    -- Nobody can tell how old it is. It stands for as long again as a new one would, by the clock as it is now.
    save(KEYS[1], r, {
      claim_at = int(now - math.max(window, 0)), claim_until = int(now + num(ARGV[7])), claim_prior = '',
    })
    return reply('claimed', now, announce(KEYS[3], ARGV[2], ARGV[1], 'claim', now, r, r.claim_by or '', 'the clock was set back'))
  end
  -- The access token, unless an API has refused it, or the caller knows that it has ended.
  local protects = now < num(r.expires_at) and r.rejected_gen ~= r.gen and ARGV[13] ~= 'over'
  -- Whoever has not seen this claim has not judged it by its own clock, and this one can have been set.
  if not harmless and (now < num(r.claim_until) or protects or r.claim_id ~= ARGV[12]) then return reply('claimed', now, r) end
  first, prior, n = at, num(r.claim_until), num(r.claim_n)
end
save(KEYS[1], r, {
  claim_id = ARGV[3], claim_by = ARGV[4],
  claim_at = int(first), -- of the first presentation of this generation: a grace window runs from it
  claim_until = int(math.max(now + num(ARGV[7]), prior)),
  claim_prior = prior > 0 and int(prior) or '', -- an earlier holder may still commit until then
  claim_n = int(n + 1),
})
local why = n > 0 and 'takeover' or ARGV[11] ~= '' and ARGV[11] or ARGV[14]
return reply('ok', now, announce(KEYS[3], ARGV[2], ARGV[1], 'claim', now, r, ARGV[4], why))
