-- Note that the provider wishes for a pause. That is one tenant's affair until a second one
-- hears it too, before the first's wait is over and with no acceptance in between: then all
-- of the app's exchanges stop for a while, and begin again with one at a time.
-- KEYS[1]  the app's state (HASH), and the channel of that name
-- ARGV[1]  id of this change
-- ARGV[2]  name of the process that was told
-- ARGV[3]  error (class/code/status)
-- ARGV[4]  fingerprint of the tenant (8 hex)
-- ARGV[5]  ms that a pause of the whole app lasts
-- returns  {"ok", now, state}: a longer pause that has begun already is kept
local r, now = hash(KEYS[1]), now_ms()
if r.change_id == ARGV[1] then return reply('ok', now, r) end
local til, paused = now + num(ARGV[5]), ahead(r, 'throttled_until', now)
local who, wait = string.match(r.limited or '', '^(%x+) (%d+)$')
local set, kind = {}, 'limited'
if paused > now or (who and who ~= ARGV[4] and num(wait) > now and not set_back(r, now)) then
  if paused >= til then return reply('ok', now, r) end
  kind = 'throttled'
  set = { throttled_until = int(til), ramp = '1', ramp_at = int(til), limited = '' }
else
  set.limited = ARGV[4] .. ' ' .. int(til)
end
if r.circuit ~= 'open' then set.error = ARGV[3] end
change(KEYS[1], kind, now, r, ARGV[1], ARGV[2], set)
return reply('ok', now, r)
