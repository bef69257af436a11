-- Say that the exchange under a claim is still under way: put the claim's hard deadline off.
-- KEYS[1]  grant record (HASH)
-- KEYS[2]  journal (STREAM)
-- ARGV[1]  events channel
-- ARGV[2]  journal length
-- ARGV[3]  holder's name
-- ARGV[4]  id of the claim
-- ARGV[5]  ms until its hard deadline
-- ARGV[6]  error (class/code/status) that callers get meanwhile; "" while they wait
-- ARGV[7]  with an error: ms until they may ask again
-- returns  {status, now, record, ""}: "ok" (a repeat is answered alike), "none", "claimed" (that
--          claim does not stand any more)
local now = now_ms()
local r, bad = load(KEYS[1], now)
if bad then return reply(bad, now, {}) end
if not r.gen then return reply('none', now, {}) end
if r.claim_id ~= ARGV[4] then return reply('claimed', now, r) end

local set = { claim_until = int(math.max(now + num(ARGV[5]), num(r.claim_until))) }
if ARGV[6] ~= '' then
  if r.error ~= ARGV[6] then
    set.error, set.error_at = ARGV[6], int(now)
    journal(KEYS[2], ARGV[2], 'extend', r, ARGV[3], ARGV[6])
  end
  set.retry_at = int(now + num(ARGV[7]))
end
save(KEYS[1], r, set)
local record = text(r)
publish(ARGV[1], 'extend ' .. int(now) .. '\n' .. record .. '\n\n')
return reply('ok', now, record)
