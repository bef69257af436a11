-- Not a script: Go puts these functions in front of every one.
-- Each script that changes a grant checks, writes, appends to the journal and
-- publishes in one step, by the one clock that all workers share (TIME).

local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

local function num(s) return tonumber(s) or 0 end

local function int(n) return string.format('%.0f', n) end

-- What a record's numbers can be: more is damage, from whoever may write to Redis. Counters stay
-- below 9e15, so that a double tells each from the next; times within a hundred years.
local limits = { -- 1: a counter, 2: a time, 3: a line of at most 64 printable bytes, as records and messages are lines
  v = 1, gen = 1, rev = 1, claim_n = 1, fails = 1, rejects = 1, rejected_gen = 1, foreign = 1, foreign_gen = 1, revivals = 1,
  epoch = 2, issued_at = 2, expires_at = 2, refresh_at = 2, rt_expires_at = 2, used_at = 2, warned_at = 2,
  claim_at = 2, claim_until = 2, claim_prior = 2, retry_at = 2, error_at = 2, reject_at = 2, spare_epoch = 2, refused_at = 2,
  state = 3, reason = 3, at_fp = 3, rt_fp = 3, by = 3, commit_id = 3, claim_id = 3, claim_by = 3, error = 3,
  consent_id = 3, consent_fp = 3, past = 3, spent = 3, lived = 3,
}
local states = { active = 1, reauthorize = 1, disconnected = 1 }
local schema = 2

-- untrue says whether a value cannot be what a field of that kind holds. No time lies behind latest.
local function untrue(kind, value, latest)
  if #value > 64 then return true end
  if kind == 3 then return string.find(value, '[^ -~]') end
  return not string.find(value, '^%d+$') or tonumber(value) > (kind == 1 and 9e15 or latest)
end

-- ill says what is wrong with a record: "damaged", "newer" (of a later version than this one), nil.
local function ill(r, now)
  if not next(r) then return nil end
  if string.find(r.v or '', '^%d+$') and num(r.v) > schema and num(r.v) < 1000 then return 'newer' end
  local latest = now + 3155760000000
  for name, value in pairs(r) do
    local kind = limits[name]
    if kind and value ~= '' and untrue(kind, value, latest) then return 'damaged' end
  end
  if not states[r.state] or num(r.epoch) == 0 then return 'damaged' end
  return nil
end

-- hash reads a HASH; what is of another type is damaged.
local function hash(key)
  local flat, r = redis.pcall('HGETALL', key), {}
  if flat.err then return r, 'damaged' end
  for i = 1, #flat, 2 do r[flat[i]] = flat[i + 1] end
  return r, nil
end

-- load reads a grant's record, for a script that changes one: what is ill it must leave alone.
local function load(key, now)
  local r, bad = hash(key)
  return r, bad or ill(r, now)
end

-- pair_of reads the sealed pair, no more of it than a pair can be; "" for none.
local function pair_of(key)
  local sealed = redis.pcall('GETRANGE', key, 0, 8388607)
  return type(sealed) == 'string' and sealed or ''
end

-- text is a record as events and replies carry it: one line a field.
local function text(r)
  local parts, n = {}, 0
  for k, v in pairs(r) do
    if v ~= '' and not string.find(v, '\n', 1, true) then
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
  'claim_prior', 'claim_id', 'fails', 'retry_at', 'error', 'error_at', 'refused_at', 'revivals',
  'rejects', 'reject_at', 'rejected_gen', 'foreign', 'foreign_gen', 'lived',
  'consent_id', 'consent_fp', 'past', 'spent', 'spare_epoch', 'rev', 'v',
}

-- save writes the changed fields and counts the revision, which orders the states
-- of one generation. Fields that say nothing are not stored.
local function save(key, r, set)
  set.v = int(schema)
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

-- again writes what is there already. WAIT waits for what its own connection has written: without
-- this a repeat, which may come by another one, would be taken for acknowledged.
local function again(key, r) redis.call('HSET', key, 'state', r.state) end

local function clear_claim(set)
  set.claim_id, set.claim_by, set.claim_at = '', '', ''
  set.claim_until, set.claim_prior, set.claim_n = '', '', ''
end

local function clear_failure(set)
  set.fails, set.retry_at, set.error, set.error_at, set.refused_at, set.revivals = '', '', '', '', '', ''
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

-- lived notes the age in s at which an access token has died: "3600x2" for two generations in a row at
-- the same age; once they are row many, "3420", the life that tokens are taken to have. It says whether the age
-- is that of the generation before.
local function lived(set, r, age, tolerance, share, row)
  local was, n = string.match(r.lived or '', '^(%d+)x(%d+)$')
  local same = was and 100 * math.abs(age - num(was)) <= tolerance * math.max(age, num(was))
  if same then age, n = math.min(age, num(was)), num(n) + 1 else n = 1 end
  set.lived = n >= row and int(math.floor(age * share / 100)) or int(age) .. 'x' .. int(n)
  return same
end

-- newer says whether the position (epoch, gen, rev) comes after the record's.
local function newer(r, epoch, gen, rev)
  if epoch ~= num(r.epoch) then return epoch > num(r.epoch) end
  if gen ~= num(r.gen) then return gen > num(r.gen) end
  return rev > num(r.rev)
end

-- A record keeps of the refresh tokens that were redeemed the last few, by the first 8 digits of
-- their fingerprints: who brings one of them again brings a token that is dead.
local spent_length = 7

local function was_spent(r, fp)
  return fp ~= '' and string.find(' ' .. (r.spent or '') .. ' ', ' ' .. fp:sub(1, 8) .. ' ', 1, true) ~= nil
end

-- spend is the list after the record's refresh token was redeemed for another one; nil if it was
-- not replaced.
local function spend(r, successor)
  if (r.rt_fp or '') == '' or r.rt_fp == successor then return nil end
  local list = { r.rt_fp:sub(1, 8) }
  for fp in string.gmatch(r.spent or '', '%S+') do
    if #list < spent_length then list[#list + 1] = fp end
  end
  return table.concat(list, ' ')
end

-- A record keeps the marks of the last few calls that began the epochs before this one: of a
-- Connect what it brought, of a Disconnect its id.
local past_length = 3

local function consent_mark(fp) return fp:sub(1, 8) .. fp:sub(13, 21) end

-- began says whether the call of that mark began an epoch before this one.
local function began(r, mark)
  return string.find(' ' .. (r.past or '') .. ' ', ' ' .. mark .. ' ', 1, true) ~= nil
end

-- past is that list once another Connect begins an epoch.
local function past(r)
  local list = {}
  if r.state == 'disconnected' then list[1] = r.consent_id end
  if r.consent_fp then list[#list + 1] = consent_mark(r.consent_fp) end
  for mark in string.gmatch(r.past or '', '%S+') do
    if #list < past_length then list[#list + 1] = mark end
  end
  return table.concat(list, ' ')
end

-- journaled says whether a call with that id is in the journal: it has run before, whatever came
-- after it.
local function journaled(journal, id)
  local entries = redis.pcall('XRANGE', journal, '-', '+')
  for _, entry in ipairs(entries.err and {} or entries) do
    for i = 1, #entry[2], 2 do
      if entry[2][i] == 'id' and entry[2][i + 1] == id then return true end
    end
  end
  return false
end
