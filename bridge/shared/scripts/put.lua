-- Store an evaluation after a turn. KEYS: the evaluations' prefix, which ends with a colon.
-- ARGV: its id, its JSON ('' to store nothing), how many evaluations are kept, for how many ms, how many with one digest,
-- how many digests it is found by, these ('q:…' of what was asked, 'r:…' of an answer),
-- and the digests that the turn had marked as busy and that are free again.
-- An evaluation is e:<id>, and its digests are the list i:<id>; <digest> is a list of ids, the newest last;
-- `used` is a sorted set of ids by the time of use.
local prefix, id = KEYS[1], ARGV[1]

local function remove(gone)
  local index = redis.call('LRANGE', prefix .. 'i:' .. gone, 0, -1)
  if gone == id and #index == 0 then return end -- a new one, as most are
  for _, digest in ipairs(index) do redis.call('LREM', prefix .. digest, 0, gone) end
  redis.call('DEL', prefix .. 'e:' .. gone, prefix .. 'i:' .. gone)
  redis.call('ZREM', prefix .. 'used', gone)
end

local known = 6 + tonumber(ARGV[6])
for at = known + 1, #ARGV do redis.call('DEL', prefix .. 'busy:' .. ARGV[at]) end
if ARGV[2] == '' then return end

remove(id)
redis.call('SET', prefix .. 'e:' .. id, ARGV[2], 'PX', ARGV[4])
for at = 7, known do
  local place = prefix .. ARGV[at]
  if redis.call('RPUSH', place, id) > tonumber(ARGV[5]) then redis.call('LTRIM', place, -tonumber(ARGV[5]), -1) end
  redis.call('PEXPIRE', place, ARGV[4])
end
redis.call('RPUSH', prefix .. 'i:' .. id, unpack(ARGV, 7, known))
redis.call('PEXPIRE', prefix .. 'i:' .. id, ARGV[4])
local time = redis.call('TIME')
redis.call('ZADD', prefix .. 'used', string.format('%.0f', time[1] * 1000000 + time[2]), id)
redis.call('PEXPIRE', prefix .. 'used', ARGV[4])
for _ = 1, redis.call('ZCARD', prefix .. 'used') - tonumber(ARGV[3]) do
  remove(redis.call('ZRANGE', prefix .. 'used', 0, 0)[1])
end
