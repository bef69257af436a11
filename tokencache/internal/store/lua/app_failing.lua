-- Note that the provider has failed for a tenant: it gave no answer, or one that blames itself. When it fails
-- for several with no answer of any other kind in between, it is down for all.
-- KEYS[1]  the app's state (HASH), and the channel of that name
-- ARGV[1]  id of this change
-- ARGV[2]  name of the process whose exchange failed
-- ARGV[3]  error (class/code/status)
-- ARGV[4]  fingerprint of the tenant (8 hex)
-- ARGV[5]  how many tenants are several
-- returns  {"ok", now, state}. Nothing is written of a tenant that is noted already
local r, now = app_state(KEYS[1])
if r.change_id == ARGV[1] or r.down_at then return reply('ok', now, r) end
local all, n = remember(r.failing, ARGV[4])
if n == 0 then return reply('ok', now, r) end
local set, kind = { failing = all }, 'failing'
if n >= num(ARGV[5]) then
  kind, set.down_at = 'provider_down', int(now)
  if r.circuit ~= 'open' then set.error = ARGV[3] end
end
change(KEYS[1], kind, now, r, ARGV[1], ARGV[2], set)
return reply('ok', now, r)
