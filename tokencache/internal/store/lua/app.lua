-- Not a script: Go puts these functions, after those of common.lua and publish.lua, in front of every
-- script about an app. Those about a grant do without: what stands in front is run each time.

-- set_back says that this clock was set back since an app's state was written. What it says of times
-- ahead is over then: nobody can tell what is left of a wait, and it would last as long as the clock was set back.
local function set_back(r, now) return num(r.changed_at) > now + 2000 end

-- ahead is a time of an app's state, for which something waits; 0 for none.
local function ahead(r, name, now) return set_back(r, now) and 0 or num(r[name]) end

-- tell_app publishes what is new about an app. The channel is called like the key.
local function tell_app(channel, kind, now, body)
  publish(channel, kind .. ' ' .. int(now) .. (body and '\n' .. body or ''))
end

-- change stores an app's changed fields and pushes its whole state to all workers. A fact
-- that is over is removed.
local app_order = {
  'circuit', 'error', 'opened_at', 'probes', 'probe_at', 'probe_by', 'probe_id', 'refused', 'brake',
  'throttled_until', 'limited', 'ramp', 'ramp_at', 'mass_at', 'mass_try_at', 'deaths', 'deaths_at',
  'failing', 'down_at', 'accepted_at', 'read_at', 'born', 'born_before', 'lost_at', 'change', 'by', 'change_id', 'changed_at', 'rev', 'v',
}
local function change(key, kind, now, r, id, by, set)
  set.change, set.by, set.change_id, set.rev, set.v = kind, by, id, int(num(r.rev) + 1), '1'
  if set_back(r, now) then
    for _, k in ipairs({ 'probe_at', 'throttled_until', 'limited', 'ramp_at', 'mass_try_at' }) do
      if r[k] and not set[k] then set[k] = '' end
    end
  end
  set.changed_at = int(now)
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
