-- Ends what a lease holds and charges what its call used. ARGV: the lease, its time, the tokens, nothing; then for each
-- window its length, maximum, amount and unit.

for place = 1, #KEYS / 3 do
  local at = 4 * place
  local w = open(place, ARGV[at + 1], ARGV[at + 2])
  finish(w, ARGV[1], tonumber(ARGV[3]))
  save(w)
end
return 1
