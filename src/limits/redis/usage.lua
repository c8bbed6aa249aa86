-- Tells what each window counts. ARGV: nothing, the lease time, nothing, nothing; then for each window its length,
-- maximum, amount and unit.

local answer = {}
for place = 1, #KEYS / 3 do
  local at = 4 * place
  local w = open(place, ARGV[at + 1], ARGV[at + 2])
  tell(w, answer)
  save(w)
end
return answer
