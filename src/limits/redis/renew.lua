-- Keeps a lease that is still open. ARGV: the lease, its time, nothing, nothing; then for each window its length, maximum,
-- amount and unit.

for place = 1, #KEYS / 3 do
  local at = 4 * place
  local w = open(place, ARGV[at + 1], ARGV[at + 2])
  if redis.call('HEXISTS', w.state, 'r:' .. ARGV[1]) == 1 then
    redis.call('ZADD', w.leases, whole(clock + lease_time), ARGV[1])
    w.changed = true
  end
  save(w)
end
return 1
