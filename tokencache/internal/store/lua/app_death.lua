-- Ask whether to believe that a grant is dead. Many deaths within a short time are rather
-- the provider's mistake than that of so many tenants.
-- KEYS[1]  the app's state (HASH), and the channel of that name
-- ARGV[1]  id of this change
-- ARGV[2]  name of the process that asks
-- ARGV[3]  how many deaths are believed within the time
-- ARGV[4]  that time, ms
-- ARGV[5]  ms for which deaths are doubted; after that they are believed for as long
-- returns  {status, now, state}: "ok", "doubt"
local r, now = app_state(KEYS[1])
local since = now - num(r.mass_at)
if r.mass_at and since < num(ARGV[5]) then return reply('doubt', now, r) end
if r.change_id == ARGV[1] or (r.mass_at and since < 2 * num(ARGV[5])) then return reply('ok', now, r) end
-- A bucket that leaks: steady deaths are believed. It is never more than full.
local level = math.max(0, math.min(num(r.deaths), num(ARGV[3])) - math.max(0, now - num(r.deaths_at)) * num(ARGV[3]) / num(ARGV[4])) + 1
if level <= num(ARGV[3]) then
  change(KEYS[1], 'death', now, r, ARGV[1], ARGV[2], {
    deaths = string.format('%.3f', level), deaths_at = int(now), mass_at = '', mass_try_at = '',
  })
  return reply('ok', now, r)
end
change(KEYS[1], 'mass_death', now, r, ARGV[1], ARGV[2], {
  deaths = '', deaths_at = '', mass_at = int(now), mass_try_at = '',
})
return reply('doubt', now, r)
