-- Claim a slot of an API key for a request. KEYS: the key's window, its running calls, the instances, all running calls.
-- ARGV: this instance, its running calls of the key including this one, requests per window, the window's length in ms,
-- concurrent calls of the key, after how many ms a silent instance counts as dead, after how many ms a count expires,
-- this instance's running calls of all keys including this one, concurrent calls of all keys.
-- Returns '' or the limit that is reached, the remaining requests, the ms until all requests are available again, and
-- the ms until the next one is.
local me, mine, all_mine = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[8])
local rpm, length, concurrency, streams = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[9])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function count(place, running)
  if running > 0 then
    if redis.call('HSET', place, me, running) == 1 then redis.call('PEXPIRE', place, ARGV[7]) end -- else it is refreshed
  else
    redis.call('HDEL', place, me)
  end
end

-- The window is a list of the times at which its requests leave it, the earliest first.
local last = tonumber(redis.call('LINDEX', KEYS[1], -1) or 0) or 0
if last > now + 2 * length then -- the clock was set back
  redis.call('DEL', KEYS[1])
  last = 0
end
while true do
  local first = redis.call('LINDEX', KEYS[1], 0)
  if not first or (tonumber(first) or 0) > now then break end
  redis.call('LPOP', KEYS[1])
end
local used = redis.call('LLEN', KEYS[1])
local left = used < rpm and 0 or tonumber(redis.call('LINDEX', KEYS[1], used - rpm)) - now
local reset = used > 0 and last - now or 0

-- The number of calls that other live instances run.
local alive = {}
local function others(place)
  local sum, calls = 0, redis.call('HGETALL', place)
  for at = 1, #calls, 2 do
    local name = calls[at]
    if name ~= me then
      if alive[name] == nil then
        alive[name] = now - (tonumber(redis.call('HGET', KEYS[3], name) or 0) or 0) < tonumber(ARGV[6])
      end
      local its = tonumber(calls[at + 1]) or 0
      if alive[name] and its >= 0 and its <= 100000 then -- a larger number than `limits.streams` may be is not the bridge's
        sum = sum + its
      else
        redis.call('HDEL', place, name)
      end
    end
  end
  return sum
end

local function refuse(limit, remaining)
  count(KEYS[2], mine - 1)
  count(KEYS[4], all_mine - 1)
  return {limit, remaining, reset, left}
end

if others(KEYS[4]) + all_mine > streams then return refuse('streams', math.max(rpm - used, 0)) end
if others(KEYS[2]) + mine > concurrency then return refuse('concurrency', math.max(rpm - used, 0)) end
if used >= rpm then return refuse('rpm', 0) end
redis.call('RPUSH', KEYS[1], string.format('%.0f', math.max(last, now + length)))
redis.call('PEXPIRE', KEYS[1], 2 * length)
count(KEYS[2], mine)
count(KEYS[4], all_mine)
return {'', rpm - used - 1, length, 0}
