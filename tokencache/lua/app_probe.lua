-- Ask for the right to try whether the provider accepts the client again.
-- KEYS[1]  the app's state (HASH), and the channel of that name
-- ARGV[1]  id of this change
-- ARGV[2]  who asks
-- ARGV[3]  ms after which somebody else may, should nothing be heard
-- returns  {status, now, state}: "ok" (probe, or the circuit is closed), "wait" (not yet, or
--          somebody else does)
local r, now = hash(KEYS[1]), now_ms()
if r.circuit ~= 'open' or r.change_id == ARGV[1] then return reply('ok', now, r) end
if num(r.probe_at) > now then return reply('wait', now, r) end
change(KEYS[1], 'probe', now, r, ARGV[1], ARGV[2], {
  probe_by = ARGV[2], probe_at = int(now + num(ARGV[3])),
})
return reply('ok', now, r)
