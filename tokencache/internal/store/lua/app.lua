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

-- set_back says that this clock was set back since an app's state was written. What it says of times
-- ahead is over then: nobody can tell what is left of a wait, and it would last as long as the clock was set back.
local function set_back(r, now) return num(r.changed_at) > now + 2000 end

-- At most so many hosts are in an app's state.
local most_hosts = 16

-- make_room makes room for one more host: of too many the one goes that changed longest ago, and those
-- that nothing stops go first.
local function make_room(r, now, set)
  local n, first, oldest = 0, nil, nil
  for k, v in pairs(r) do
    local name = string.match(k, '^changed_at@(.*)$')
    if name then
      local changed = set_back({ changed_at = v }, now) and 0 or num(v)
      if r['circuit@' .. name] or num(r['throttled_until@' .. name]) > now then changed = changed + 9e15 end
      n = n + 1
      if not first or changed < oldest or (changed == oldest and name < first) then first, oldest = name, changed end
    end
  end
  if n < most_hosts then return end
  for k in pairs(r) do
    if string.match(k, '@(.*)$') == first then set[k] = '' end
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

-- ahead is a time of an app's state, for which something waits; 0 for none.
local function ahead(r, name, now) return set_back(r, now) and 0 or num(r[name]) end

-- tell_app publishes what is new about an app. The channel is called like the key.
local function tell_app(channel, kind, now, body)
  publish(channel, kind .. ' ' .. int(now) .. (body and '\n' .. body or ''))
end

-- app_order is the order in which people see the fields.
local app_order = {
  'circuit', 'error', 'opened_at', 'probes', 'probe_at', 'probe_by', 'probe_id', 'refused', 'brake',
  'throttled_until', 'limited', 'ramp', 'ramp_at', 'mass_at', 'mass_try_at', 'deaths', 'deaths_at',
  'failing', 'down_at', 'accepted_at', 'read_at', 'several', 'born', 'born_before', 'lost_at', 'change', 'host', 'by', 'change_id', 'changed_at', 'rev', 'v',
}

-- forget_waits ends what waits, of an app or a host, if this clock was set back since it was written.
local function forget_waits(s, now, set)
  if not set_back(s, now) then return end
  for _, k in ipairs({ 'probe_at', 'throttled_until', 'limited', 'ramp_at', 'mass_try_at' }) do
    if s[k] and not set[k] then set[k] = '' end
  end
end

-- change stores what has changed of an app, or of its host, and pushes the whole state to all workers. A fact
-- that is over is removed.
local function change(key, kind, now, r, id, by, set)
  forget_waits(scope(r), now, set)
  if host ~= '' then
    kind, set = 'host_' .. kind, of_host(r, now, set)
    forget_waits(r, now, set) -- of the app: after this nobody sees by changed_at that the clock was set back
  end
  set.change, set.host, set.by, set.change_id, set.rev, set.v = kind, host, by, id, int(num(r.rev) + 1), '1'
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
