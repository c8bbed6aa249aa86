-- Sliding windows in Redis: the same semantics as window.rs, by the server's clock. Each script begins with this.
--
-- A window has three keys: a hash of its sums and of what each lease holds ("r:" and the lease), the list of what was
-- counted ("time:amount", oldest first), and the leases by the time at which they expire. Times are microseconds.
-- No number here is above 2^53, up to which a Lua number is exact: amounts and maxima are clamped by the caller.

local function whole(number)
  return string.format('%.0f', number)
end

local time = redis.call('TIME')
local clock = tonumber(time[1]) * 1000000 + tonumber(time[2])
local lease_time = tonumber(ARGV[2])

local function entry(text)
  local newest, amount = string.match(text, '^(%d+):(%d+)$')
  return tonumber(newest), tonumber(amount)
end

local function add(w, amount)
  if amount <= 0 then
    return
  end
  w.changed = true
  local len = redis.call('LLEN', w.log)
  local reach, bound = math.floor(w.length / 1024), 1025
  if w.max <= 1024 then
    reach, bound = 0, 1024
  end
  if len > 0 and (w.now - w.opened <= reach or len >= bound) then
    local _, sum = entry(redis.call('LINDEX', w.log, -1))
    -- As much as the largest maximum there is: the window is full with it.
    local joined = math.min(sum + amount, 2 ^ 42)
    redis.call('LSET', w.log, -1, whole(w.now) .. ':' .. whole(joined))
    w.used = w.used + joined - sum
  else
    redis.call('RPUSH', w.log, whole(w.now) .. ':' .. whole(amount))
    w.used = w.used + amount
    w.opened = w.now
  end
  w.newest = w.now
end

-- Ends what a lease holds and charges `tokens`, or all that it holds. Once: of a lease that holds nothing, nothing.
local function finish(w, id, tokens)
  local held = tonumber(redis.call('HGET', w.state, 'r:' .. id) or nil)
  if not held then
    return
  end
  w.changed = true
  redis.call('HDEL', w.state, 'r:' .. id)
  redis.call('ZREM', w.leases, id)
  w.reserved = math.max(w.reserved - held, 0)
  add(w, tokens or held)
end

-- The window of this place among the keys, as it is now.
local function open(place, length, max)
  local w = {
    state = KEYS[3 * place - 2],
    log = KEYS[3 * place - 1],
    leases = KEYS[3 * place],
    length = tonumber(length),
    max = tonumber(max),
    changed = false,
  }
  local sums = redis.call('HMGET', w.state, 'used', 'reserved', 'opened', 'newest')
  w.used = tonumber(sums[1] or 0)
  w.reserved = tonumber(sums[2] or 0)
  w.opened = tonumber(sums[3] or 0)
  w.newest = tonumber(sums[4] or 0)
  -- A clock that jumps back frees nothing.
  w.now = math.max(clock, w.newest)
  local oldest = redis.call('LINDEX', w.log, 0)
  while oldest do
    local newest, amount = entry(oldest)
    if newest + w.length > w.now then
      break
    end
    redis.call('LPOP', w.log)
    w.used = w.used - amount
    w.changed = true
    oldest = redis.call('LINDEX', w.log, 0)
  end
  -- Nobody settled these in time: their process is gone. What is left over of very many counts until the next look.
  local gone = redis.call('ZRANGEBYSCORE', w.leases, '-inf', whole(clock), 'LIMIT', 0, 256)
  for _, id in ipairs(gone) do
    finish(w, id)
  end
  return w
end

local function save(w)
  if not w.changed then
    return
  end
  redis.call('HSET', w.state, 'used', whole(w.used), 'reserved', whole(w.reserved), 'opened', whole(w.opened),
    'newest', whole(w.newest))
  -- When nobody touches it for so long, every lease has expired, and what it was charged for has left.
  local ttl = whole(math.ceil((w.length + lease_time) / 1000) + 1000)
  redis.call('PEXPIRE', w.state, ttl)
  redis.call('PEXPIRE', w.log, ttl)
  redis.call('PEXPIRE', w.leases, ttl)
end

local function room(w)
  return math.max(w.max - w.used - w.reserved, 0)
end

-- How long until there is room for this amount: 0 is now, -1 never.
local function wait_for(w, amount)
  if amount > w.max or w.max == 0 then
    return -1
  end
  local excess = w.used + w.reserved + amount - w.max
  local wait, from = 0, 0
  while excess > 0 do
    local entries = redis.call('LRANGE', w.log, from, from + 63)
    if #entries == 0 then
      return w.length
    end
    for _, text in ipairs(entries) do
      local newest, counted = entry(text)
      excess = excess - counted
      wait = newest + w.length - w.now
      if excess <= 0 then
        break
      end
    end
    from = from + 64
  end
  return wait
end

-- Used, reserved, and how long until nothing counts any more.
local function tell(w, answer)
  local reset = 0
  local newest = redis.call('LINDEX', w.log, -1)
  if newest then
    reset = entry(newest) + w.length - w.now
  end
  table.insert(answer, w.used)
  table.insert(answer, w.reserved)
  table.insert(answer, reset)
end
