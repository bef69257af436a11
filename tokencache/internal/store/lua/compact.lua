-- Store the journal of a grant that rests at its own size. Redis gives a growing stream 4 KB
-- at once, and keeps the room of entries that were trimmed: most of what a grant that nobody
-- uses would take. Refreshes that went well are kept only among the last entries, and without the
-- provider's request ids.
-- KEYS[1]  journal (STREAM)
-- ARGV[1]  how many of the last entries stay whatever they say
-- returns  1, or 0 if there is none. A repeat changes nothing.
local entries = redis.call('XRANGE', KEYS[1], '-', '+')
if #entries == 0 then return 0 end

local ordinary = { [''] = true, due = true, idle = true, asked = true, refused = true, forced = true }

-- routine says whether an entry is of a refresh that went well; it loses its request id.
local function routine(values)
  local e, req = {}, 0
  for i = 1, #values, 2 do
    e[values[i]] = values[i + 1]
    if values[i] == 'req' then req = i + 1 end
  end
  local is = e.kind == 'claim' and ordinary[e.why] or e.kind == 'commit' and e.why == ''
  if is and req > 0 then values[req] = '' end
  return is
end

local left = math.max(0, redis.call('PTTL', KEYS[1])) -- that of a tombstone ends
redis.call('DEL', KEYS[1])
for i, entry in ipairs(entries) do
  if not routine(entry[2]) or i > #entries - num(ARGV[1]) then
    redis.call('XADD', KEYS[1], entry[1], unpack(entry[2]))
  end
end
redis.call('RESTORE', KEYS[1], left, redis.call('DUMP', KEYS[1]), 'REPLACE')
return 1
