-- End a grant: a new epoch without a pair. The tombstone refuses whatever an older
-- exchange still brings.
-- KEYS[1]  grant record (HASH)
-- KEYS[2]  sealed pair (STRING)
-- KEYS[3]  spare: sealed pair (STRING)
-- KEYS[4]  journal (STREAM)
-- ARGV[1]  events channel
-- ARGV[2]  journal length
-- ARGV[3]  id of this change
-- ARGV[4]  who disconnects
-- ARGV[5]  latest epoch that the caller remembers, lest that grant be restored
-- returns  {"ok", now, record, ""}
local r, now = load(KEYS[1]), now_ms()
if r.commit_id == ARGV[3] then return reply('ok', now, r) end -- a repeat: its reply was lost

local set = {
  epoch = int(math.max(now, num(r.epoch) + 1, num(ARGV[5]) + 1)), gen = int(num(r.gen)),
  state = 'disconnected', reason = '', by = ARGV[4], commit_id = ARGV[3],
  issued_at = '', expires_at = '', refresh_at = '', rt_expires_at = '', at_fp = '', rt_fp = '',
}
clear_claim(set)
clear_failure(set)
clear_rejects(set, r)
if r.used_at then set.used_at = '' end
if r.foreign then set.foreign, set.foreign_gen = '', '' end
if r.warned_at then set.warned_at = '' end
save(KEYS[1], r, set)
redis.call('DEL', KEYS[2], KEYS[3])
return reply('ok', now, announce(KEYS[4], ARGV[2], ARGV[1], 'disconnect', now, r, ARGV[4], ''))
