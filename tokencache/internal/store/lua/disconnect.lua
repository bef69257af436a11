-- End a grant: a new epoch without a pair. The tombstone refuses whatever an older
-- exchange still brings, and goes after a while.
-- KEYS[1]  grant record (HASH)
-- KEYS[2]  sealed pair (STRING)
-- KEYS[3]  spare: sealed pair (STRING)
-- KEYS[4]  journal (STREAM)
-- KEYS[5]  unread answers (LIST)
-- ARGV[1]  events channel
-- ARGV[2]  journal length
-- ARGV[3]  id of this call
-- ARGV[4]  who disconnects
-- ARGV[5]  latest epoch that the caller remembers, lest that grant be restored; 0 for none
-- ARGV[6]  ms for which the tombstone stands
-- ARGV[7]  the tombstone's reason: what is to be done with a pair that comes late; "" for nothing
-- returns  {status, now, record, ""}: "ok"; "repeat" (this call was here before, whatever has
--          happened since, or the grant is disconnected already: nothing is changed); "none" (there
--          is no grant, and nobody remembers one); "newer" (a later version wrote the record)
local now = now_ms()
local r, bad = load(KEYS[1], now)
if bad == 'newer' then return reply(bad, now, {}) end
if not r.gen and not bad and num(ARGV[5]) == 0 then return reply('none', now, {}) end
if bad then r = {} end
local called = r.gen and (r.consent_id == ARGV[3] or began(r, ARGV[3]) or journaled(KEYS[4], ARGV[3]))
if called or r.state == 'disconnected' and num(r.epoch) >= num(ARGV[5]) then
  again(KEYS[1], r)
  return reply('repeat', now, r)
end

local set = {
  epoch = int(math.max(now, num(r.epoch) + 1, num(ARGV[5]) + 1)), gen = int(num(r.gen)),
  state = 'disconnected', reason = ARGV[7], by = ARGV[4], commit_id = ARGV[3], consent_id = ARGV[3],
  issued_at = '', expires_at = '', refresh_at = '', rt_expires_at = '', at_fp = '', rt_fp = '',
}
clear_claim(set)
clear_failure(set)
clear_rejects(set, r)
if r.used_at then set.used_at = '' end
if r.foreign then set.foreign, set.foreign_gen = '', '' end
if r.warned_at then set.warned_at = '' end
if r.lived then set.lived = '' end
if r.spare_epoch then set.spare_epoch = '' end
if bad then redis.call('DEL', KEYS[1]) end
save(KEYS[1], r, set)
redis.call('DEL', KEYS[2], KEYS[3], KEYS[5])
local record = announce(KEYS[4], ARGV[2], ARGV[1], 'disconnect', now, r, ARGV[4], ARGV[7], nil, ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('PEXPIRE', KEYS[4], ARGV[6])
return reply('ok', now, record)
