-- Close an app's circuit: the provider has accepted its client.
-- KEYS[1]  the app's state (HASH), and the channel of that name
-- ARGV[1]  id of this change
-- ARGV[2]  who was accepted
-- ARGV[3]  opened_at of the circuit as it was before the exchange: one that was opened
--          since then stays open
-- returns  {status, now, state}: "ok", "moved"
local r, now = hash(KEYS[1]), now_ms()
if r.circuit ~= 'open' then return reply('ok', now, r) end
if num(r.opened_at) ~= num(ARGV[3]) then return reply('moved', now, r) end
change(KEYS[1], 'closed', now, r, ARGV[1], ARGV[2], {
  circuit = 'closed', probes = '', probe_at = '', probe_by = '',
})
return reply('ok', now, r)
