-- Say that the exchange under a claim is still under way: put the claim's hard deadline off.
-- KEYS[1]  grant record (HASH)
-- KEYS[2]  sealed pair (STRING)
-- KEYS[3]  journal (STREAM)
-- ARGV[1]  events channel
-- ARGV[2]  journal length
-- ARGV[3]  holder's name
-- ARGV[4]  epoch that is presented
-- ARGV[5]  generation that is presented
-- ARGV[6]  id of the claim
-- ARGV[7]  ms until its hard deadline
-- ARGV[8]  error (class/code/status) that callers get meanwhile; "" while they wait
-- ARGV[9]  with an error: ms until they may ask again
-- returns  {status, now, record, sealed pair if moved}: "ok", "none", "moved" (another epoch or
--          generation), "claimed" (that claim does not stand any more). A repeat at once changes
--          nothing; a later one puts the deadline off by so much more
local now = now_ms()
local r, bad = load(KEYS[1], now)
if bad then return reply(bad, now, {}) end
if not r.gen then return reply('none', now, {}) end
if num(r.epoch) ~= num(ARGV[4]) or num(r.gen) ~= num(ARGV[5]) then
  return reply('moved', now, r, pair_of(KEYS[2]))
end
if r.claim_id ~= ARGV[6] then return reply('claimed', now, r) end

local new = ARGV[8] ~= '' and r.error ~= ARGV[8]
if not new and now + num(ARGV[7]) < num(r.claim_until) + 50 then return reply('ok', now, r) end
local set = { claim_until = int(math.max(now + num(ARGV[7]), num(r.claim_until))) }
if ARGV[8] ~= '' then
  if new then
    set.error, set.error_at = ARGV[8], int(now)
    journal(KEYS[3], ARGV[2], 'extend', r, ARGV[3], '', nil, { answer = ARGV[8] })
  end
  set.retry_at = int(now + num(ARGV[9]))
end
save(KEYS[1], r, set)
local record = text(r)
publish(ARGV[1], 'extend ' .. int(now) .. '\n' .. record .. '\n\n')
return reply('ok', now, record)
