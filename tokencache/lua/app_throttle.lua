-- Stop an app's exchanges for a while: the provider wishes so.
-- KEYS[1]  the app's state (HASH), and the channel of that name
-- ARGV[1]  id of this change
-- ARGV[2]  who was told
-- ARGV[3]  error (class/code/status)
-- ARGV[4]  ms
-- returns  {"ok", now, state}: a longer stop that stands already stays
local r, now = hash(KEYS[1]), now_ms()
local til = now + num(ARGV[4])
if r.change_id == ARGV[1] or num(r.throttled_until) >= til then return reply('ok', now, r) end
local set = { throttled_until = int(til) }
if r.circuit ~= 'open' then set.error = ARGV[3] end
change(KEYS[1], 'throttled', now, r, ARGV[1], ARGV[2], set)
return reply('ok', now, r)
