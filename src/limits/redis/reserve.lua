-- Counts a call in all windows, or in none. ARGV: the lease, its time, whether it is enforced, whether it may have been
-- asked before; then for each window its length, maximum, amount and unit.
-- Answers which window refuses (0: none) and its wait, then what each window counts.

local id, enforced, again = ARGV[1], ARGV[3] == '1', ARGV[4] == '1'
local windows = {}
local refusing, wait, longest = 0, 0, 0
local known = false

for place = 1, #KEYS / 3 do
  local at = 4 * place
  local w = open(place, ARGV[at + 1], ARGV[at + 2])
  w.amount = tonumber(ARGV[at + 3])
  w.unit = ARGV[at + 4]
  windows[place] = w
  if again and redis.call('HEXISTS', w.state, 'r:' .. id) == 1 then
    known = true
  end
  local until_room = wait_for(w, math.max(w.amount, 1))
  local rank = until_room
  if until_room < 0 then
    rank = math.huge
  end
  if rank > longest then
    refusing, wait, longest = place, until_room, rank
  end
end

if known then
  refusing, wait = 0, 0
elseif refusing == 0 or not enforced then
  for _, w in ipairs(windows) do
    if w.unit == 't' then
      redis.call('HSET', w.state, 'r:' .. id, whole(w.amount))
      redis.call('ZADD', w.leases, whole(clock + lease_time), id)
      w.reserved = w.reserved + w.amount
      w.changed = true
    else
      add(w, w.amount)
    end
  end
end

local answer = { refusing, wait }
for _, w in ipairs(windows) do
  tell(w, answer)
  save(w)
end
return answer
