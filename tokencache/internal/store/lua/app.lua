-- Not a script: Go puts these functions, after those of common.lua and publish.lua, in front of every
-- script about an app. Those about a grant do without: what stands in front is run each time.
--
-- Where tenants have token endpoints at hosts of their own, a script may be about one host instead of the
-- whole app. Go appends its name to the arguments, in front of the proof key; '' is the app. What is known of
-- a host lies in fields of the same names with the host behind: circuit@login.example.com.
local host = table.remove(ARGV)
local at = host == '' and '' or '@' .. host

-- scope is what an app's state says of what the script is about, under plain names.
local function scope(r)
  if host == '' then return r end
  local s = {}
  for k, v in pairs(r) do
    if string.sub(k, -#at) == at then s[string.sub(k, 1, -#at - 1)] = v end
  end
  return s
end

-- At most so many hosts are in an app's state, and so many fields: more was not written by these scripts.
local most_hosts, most_fields = 16, 500

-- What an app's facts can be, as limits in common.lua has it for grants; those that are not here are lines. When a
-- loss was is no time here: nobody but an operator ends that.
local kinds = {
  probes = 1, ramp = 1, rev = 1, v = 1, lost_at = 1, changed_at = 1,
  opened_at = 2, accepted_at = 2, read_at = 2, down_at = 2, mass_at = 2, deaths_at = 2,
  probe_at = 2, throttled_until = 2, ramp_at = 2, mass_try_at = 2,
}
-- Something waits for these.
local waits = { probe_at = true, throttled_until = true, limited = true, ramp_at = true, mass_try_at = true }

-- No time that a script writes lies further ahead, ms. A host of which nothing has changed for so long is
-- forgotten: no tenant wants it.
local longest = 86400000

-- set_back says that this clock was set back since a change. What was said of times ahead is over then: nobody can
-- tell what is left of a wait, and it would last as long as the clock was set back.
local function set_back(changed, now) return changed > now + 2000 end

-- believed says whether a fact of an app, or of a host, can be true and is not over. changed is when the app or
-- the host changed last.
local function believed(name, value, changed, now)
  if value == '' or untrue(kinds[name] or 3, value, now + longest) then return false end
  if waits[name] and set_back(changed, now) then return false end
  if name ~= 'limited' then return true end
  local til = string.match(value, '^[^ ]+ (%d+)$')
  return til and num(til) <= now + longest
end

-- app_order is the order in which people see the fields.
local app_order = {
  'circuit', 'error', 'opened_at', 'probes', 'probe_at', 'probe_by', 'probe_id', 'refused', 'brake',
  'throttled_until', 'limited', 'ramp', 'ramp_at', 'mass_at', 'mass_try_at', 'deaths', 'deaths_at',
  'failing', 'down_at', 'accepted_at', 'read_at', 'several', 'born', 'born_before', 'lost_at', 'change', 'host', 'by', 'change_id', 'changed_at', 'rev', 'v',
}

-- app_state reads an app's state, and Redis' time. What cannot be true, or is over, counts as nothing: it is among
-- the stale fields, which the next change removes. State.fill in Go says the same.
local stale = {}
local function app_state(key)
  local r, now, n = hash(key), now_ms(), 0
  for _ in pairs(r) do n = n + 1 end
  local known = {}
  for _, k in ipairs(app_order) do known[k] = true end
  for k, v in pairs(r) do
    local name, of = string.match(k, '^([^@]*)(.*)$')
    local since = r['changed_at' .. of] or ''
    local changed = untrue(1, since) and 0 or num(since)
    local over = #name > 64 or n > most_fields and not known[k]
    if of ~= '' then
      over = over or #of > 65 or not string.find(of, '^@[a-z0-9._:~%[%]%-]+$') or math.abs(now - changed) > longest
    end
    if over or not believed(name, v, changed, now) then stale[#stale + 1] = k end
  end
  for _, k in ipairs(stale) do r[k] = nil end
  return r, now
end

-- make_room makes room for one more host: of too many those go that changed longest ago, and those
-- that nothing stops go first.
local function make_room(r, now, set)
  local hosts = {}
  for k, v in pairs(r) do
    local of = string.match(k, '^changed_at(@.*)$')
    if of then
      local changed = set_back(num(v), now) and 0 or num(v)
      if r['circuit' .. of] or num(r['throttled_until' .. of]) > now then changed = changed + 9e15 end
      hosts[#hosts + 1] = { of = of, changed = changed }
    end
  end
  table.sort(hosts, function(a, b)
    if a.changed ~= b.changed then return a.changed < b.changed end
    return a.of < b.of
  end)
  local goes = {}
  for i = 1, #hosts - most_hosts + 1 do goes[hosts[i].of] = true end
  for k in pairs(r) do
    if goes[string.match(k, '@.*$')] then set[k] = '' end
  end
end

-- of_host is what changes of the script's host, under the names in the app's state.
local function of_host(r, now, set)
  local named = {}
  if not r['changed_at' .. at] then make_room(r, now, named) end
  for k, v in pairs(set) do named[k .. at] = v end
  if set.changed_at ~= '' then named['changed_at' .. at] = int(now) end -- '': nothing is left of it
  return named
end

-- tell_app publishes what is new about an app. The channel is called like the key.
local function tell_app(channel, kind, now, body)
  publish(channel, kind .. ' ' .. int(now) .. (body and '\n' .. body or ''))
end

-- change stores what has changed of an app, or of its host, and pushes the whole state to all workers. A fact
-- that is over is removed.
local function change(key, kind, now, r, id, by, set)
  if host ~= '' then kind, set = 'host_' .. kind, of_host(r, now, set) end
  set.change, set.host, set.by, set.change_id, set.rev, set.v = kind, host, by, id, int(num(r.rev) % 9e15 + 1), '1'
  set.changed_at = int(now)
  local args, gone = {}, {}
  local function put(k)
    if set[k] == '' then
      if r[k] then gone[#gone + 1] = k end
      r[k] = nil
    elseif set[k] then
      r[k] = set[k]
      args[#args + 1] = k; args[#args + 1] = set[k]
    end
  end
  for _, k in ipairs(app_order) do put(k) end
  for k in pairs(set) do
    if string.find(k, '@', 1, true) then put(k) end
  end
  for _, k in ipairs(stale) do
    if not set[k] or set[k] == '' then gone[#gone + 1] = k end
  end
  redis.call('HSET', key, unpack(args))
  for i = 1, #gone, 5000 do -- Lua unpacks no 8000 at once
    redis.call('HDEL', key, unpack(gone, i, math.min(i + 4999, #gone)))
  end
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
