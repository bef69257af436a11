-- Not a script: Go puts these functions in front of every one.
-- Each script that changes a grant checks, writes, appends to the journal and
-- publishes in one step, by the one clock that all workers share (TIME).

local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

local function num(s) return tonumber(s) or 0 end

local function int(n) return string.format('%.0f', n) end

local function load(key)
  local pairs_, r = redis.call('HGETALL', key), {}
  for i = 1, #pairs_, 2 do r[pairs_[i]] = pairs_[i + 1] end
  return r
end

-- text is a record as events and replies carry it: one line a field.
local function text(r)
  local parts, n = {}, 0
  for k, v in pairs(r) do
    if v ~= '' then
      parts[n + 1], parts[n + 2], parts[n + 3], parts[n + 4] = '\n', k, ' ', v
      n = n + 4
    end
  end
  return table.concat(parts, '', 2)
end

-- The order in which people see the fields in HGETALL.
local order = {
  'state', 'reason', 'gen', 'epoch', 'issued_at', 'refresh_at', 'expires_at', 'rt_expires_at',
  'used_at', 'warned_at', 'at_fp', 'rt_fp', 'by', 'commit_id', 'claim_by', 'claim_at', 'claim_until', 'claim_n',
  'claim_prior', 'claim_id', 'fails', 'retry_at', 'error', 'error_at',
  'rejects', 'reject_at', 'rejected_gen', 'foreign', 'foreign_gen', 'rev', 'v',
}

-- save writes the changed fields and counts the revision, which orders the states
-- of one generation. Fields that say nothing are not stored.
local function save(key, r, set)
  set.v = '1'
  set.rev = int(num(r.rev) + 1)
  local args, gone = {}, {}
  for _, k in ipairs(order) do
    if set[k] == '' then
      if r[k] then gone[#gone + 1] = k end
      r[k] = nil
    elseif set[k] then
      r[k] = set[k]
      args[#args + 1] = k; args[#args + 1] = set[k]
    end
  end
  redis.call('HSET', key, unpack(args))
  if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
end

local function clear_claim(set)
  set.claim_id, set.claim_by, set.claim_at = '', '', ''
  set.claim_until, set.claim_prior, set.claim_n = '', '', ''
end

local function clear_failure(set)
  set.fails, set.retry_at, set.error, set.error_at = '', '', '', ''
end

local function clear_rejects(set, r) -- most grants never have any
  if r.rejects then set.rejects, set.reject_at, set.rejected_gen = '', '', '' end
end

-- foreign counts the generations, in a row, at which somebody else seems to use the grant too.
local function foreign(set, r)
  if r.foreign_gen == r.gen then return num(r.foreign) end
  set.foreign, set.foreign_gen = int(num(r.foreign) + 1), r.gen
  return num(set.foreign)
end

-- announce journals a state change (the last `length` stay) and pushes it to all
-- workers: a head line, one line a field, an empty line, the sealed pair if it is new. What
-- is not a mere step on the way goes to those who watch the app's grants too: channel, event.
-- Returns the record's text.
local steps = { claim = true, reject = true, spare = true }
local function announce(journal, length, channel, kind, now, r, by, why, sealed, id)
  -- All entries have the same fields: Redis stores their names once.
  redis.call('XADD', journal, 'MAXLEN', '=', length, '*',
    'kind', kind, 'gen', r.gen, 'epoch', r.epoch, 'by', by, 'why', why, 'id', id or '')
  local record = text(r)
  local head = 'tl1 ' .. kind .. ' ' .. int(now) .. '\n' .. record
  redis.call('PUBLISH', channel, head .. '\n\n' .. (sealed or ''))
  if not steps[kind] then
    redis.call('PUBLISH', (channel:gsub('{([^:]*):.*', 'events:%1')), channel .. '\n' .. head)
  end
  return record
end

-- newer says whether the position (epoch, gen, rev) comes after the record's.
local function newer(r, epoch, gen, rev)
  if epoch ~= num(r.epoch) then return epoch > num(r.epoch) end
  if gen ~= num(r.gen) then return gen > num(r.gen) end
  return rev > num(r.rev)
end

-- reply takes a record, or its text.
local function reply(status, now, r, sealed)
  return { status, int(now), type(r) == 'string' and r or text(r), sealed or '' }
end

-- tell_app publishes what is new about an app. The channel is called like the key.
local function tell_app(channel, kind, now, body)
  redis.call('PUBLISH', channel, 'tl1 ' .. kind .. ' ' .. int(now) .. (body and '\n' .. body or ''))
end

-- change stores an app's changed fields and pushes its whole state to all workers. A fact
-- that is over is removed.
local app_order = {
  'circuit', 'error', 'opened_at', 'probes', 'probe_at', 'probe_by', 'probe_id', 'refused', 'brake',
  'throttled_until', 'limited', 'ramp', 'ramp_at', 'mass_at', 'mass_try_at', 'deaths', 'deaths_at',
  'accepted_at', 'read_at', 'change', 'by', 'change_id', 'rev', 'v',
}
local function change(key, kind, now, r, id, by, set)
  set.change, set.by, set.change_id, set.rev, set.v = kind, by, id, int(num(r.rev) + 1), '1'
  local args, gone = {}, {}
  for _, k in ipairs(app_order) do
    if set[k] == '' then
      if r[k] then gone[#gone + 1] = k end
      r[k] = nil
    elseif set[k] then
      r[k] = set[k]
      args[#args + 1] = k; args[#args + 1] = set[k]
    end
  end
  redis.call('HSET', key, unpack(args))
  if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
  tell_app(key, kind, now, text(r))
end

-- remember adds a fingerprint to a list of them, as of tenants that were refused in a row. The
-- last seven stay: 62 bytes, and more than open a circuit. Returns them, and how many they are.
local function remember(list, fp)
  local all = {}
  for known in string.gmatch(list or '', '%x+') do
    if known == fp then return list, 0 end
    all[#all + 1] = known
  end
  all[#all + 1] = fp
  if #all > 7 then table.remove(all, 1) end
  return table.concat(all, ' '), #all
end
