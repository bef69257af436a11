-- Not a script: Go puts these functions, after those of common.lua, in front of every script that
-- publishes, and appends to its arguments the proof key (tl:proof, which lies in another slot).
local proof = table.remove(ARGV)

-- publish proves that the sender may read Redis: PUBLISH needs the right to no key, and knows no
-- database. That a message could not be pushed is said in the reply; what was stored is stored.
local unpushed
local function publish(channel, body)
  local digest = redis.sha1hex(proof .. redis.sha1hex(proof .. channel .. '\n' .. body))
  local said = redis.pcall('PUBLISH', channel, 'tl2 ' .. digest .. '\n' .. body)
  if type(said) == 'table' and said.err then unpushed = said.err end
end

-- journal appends an entry, the last `length` stay. All entries have the same fields: Redis stores
-- their names once. A key of another type makes way. `said` is what an exchange brought: answer
-- (class/code/status), ms (how long it took), req (the provider's request id).
local function journal(key, length, kind, r, by, why, id, said)
  said = said or {}
  local args = { key, 'MAXLEN', '=', length, '*',
    'kind', kind, 'gen', r.gen, 'epoch', r.epoch, 'by', by, 'why', why, 'id', id or '',
    'answer', said.answer or '', 'ms', said.ms or '', 'req', said.req or '' }
  local said = redis.pcall('XADD', unpack(args))
  if type(said) == 'table' and said.err and string.find(said.err, 'WRONGTYPE') then
    redis.call('DEL', key)
    redis.call('XADD', unpack(args))
  elseif type(said) == 'table' and said.err then
    error(said.err)
  end
end

-- tell tells those who watch an app's grants of one of them: channel, event. The reply names its kind: the
-- process that made the change may not hear.
local told = {}
local function tell(channel, kind, now, record)
  told[#told + 1] = kind
  publish((channel:gsub('{([^:]*):.*', 'events:%1')), channel .. '\n' .. kind .. ' ' .. int(now) .. '\n' .. record)
end

-- announce journals a state change and pushes it to all workers: a head line, one line a field,
-- an empty line, the sealed pair if it is new. What is not a mere step on the way is told to those who
-- watch the app's grants too. Returns the record's text.
local steps = { claim = true, reject = true, spare = true, refused = true, revival = true }
local function announce(key, length, channel, kind, now, r, by, why, sealed, id, said)
  journal(key, length, kind, r, by, why, id, said)
  local record = text(r)
  local head = kind .. ' ' .. int(now) .. '\n' .. record
  publish(channel, head .. '\n\n' .. (sealed or ''))
  if not steps[kind] then tell(channel, kind, now, record) end
  if why == 'takeover' then tell(channel, why, now, record) end
  return record
end

-- reply takes a record, or its text. Behind what each script says that it returns stand why it could not be
-- pushed, "" if it could, and the kinds that were told.
local function reply(status, now, r, sealed)
  return { status, int(now), type(r) == 'string' and r or text(r), sealed or '', unpushed or '', table.concat(told, ' ') }
end
