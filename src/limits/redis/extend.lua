-- Reserves up to so many tokens more, as far as all windows have room. ARGV: the lease, its time, the tokens, nothing;
-- then for each window its length, maximum, amount and unit. Answers how many, and which window bounds it: 0 is none, also
-- for a lease that is over.

local id, granted = ARGV[1], tonumber(ARGV[3])
local windows = {}
local tightest = 1

for place = 1, #KEYS / 3 do
  local at = 4 * place
  local w = open(place, ARGV[at + 1], ARGV[at + 2])
  windows[place] = w
  if room(w) < granted then
    granted = room(w)
    tightest = place
  end
  if redis.call('HEXISTS', w.state, 'r:' .. id) == 0 then
    granted = 0
  end
end

for _, w in ipairs(windows) do
  if granted > 0 then
    redis.call('HINCRBY', w.state, 'r:' .. id, whole(granted))
    w.reserved = w.reserved + granted
    w.changed = true
  end
  save(w)
end
return { granted, tightest }
