-- Stop an app of which no answer was ever read, since the provider answered with a success
-- that cannot be read: each further exchange would lose a grant's only pair.
-- KEYS[1]  the app's state (HASH), and the channel of that name
-- ARGV[1]  id of this change
-- ARGV[2]  name of the process that got it
-- ARGV[3]  error (class/code/status)
-- ARGV[4]  fingerprint of the tenant (8 hex), which alone goes on: its pair is lost already
-- ARGV[5]  digest of the profile (8 hex) with which it cannot be read: others go on
-- returns  {"ok", now, state}; a repeat changes nothing
local r, now = app_state(KEYS[1])
if r.change_id == ARGV[1] or r.read_at then return reply('ok', now, r) end
local profiles = remember(r.brake, ARGV[5])
local refused = remember(r.brake and r.refused, ARGV[4]) -- those that were refused otherwise wait too
if r.brake and profiles == r.brake and refused == r.refused then return reply('ok', now, r) end
change(KEYS[1], 'open', now, r, ARGV[1], ARGV[2], {
  circuit = 'open', error = ARGV[3], opened_at = int(now), brake = profiles, refused = refused,
  probes = '1', probe_at = '', probe_by = '', probe_id = '',
})
return reply('ok', now, r)
