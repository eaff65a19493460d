-- Take the evaluation that a request continues, so that nobody else can. KEYS: the evaluations' prefix (see put.lua).
-- ARGV: the digest of what its model was told ('' for nothing), how many ms a turn may take, how many digests it may be
-- found by, these in the order in which they are tried, and the accounts that may be asked, by user id.
-- Returns the number of the digest that it was found by, and itself as JSON; or 0, and for each digest why not.
local prefix, digests = KEYS[1], tonumber(ARGV[3])
local usable = {}
for at = 4 + digests, #ARGV do usable[ARGV[at]] = true end

local function remove(gone)
  local index = redis.call('LRANGE', prefix .. 'i:' .. gone, 0, -1)
  for _, digest in ipairs(index) do redis.call('LREM', prefix .. digest, 0, gone) end
  redis.call('DEL', prefix .. 'e:' .. gone, prefix .. 'i:' .. gone)
  redis.call('ZREM', prefix .. 'used', gone)
  return index
end

-- What an evaluation's JSON says of its account and of what its model was told; nil where it cannot be read.
local function read(text)
  local good, value = pcall(cjson.decode, text)
  if not good or type(value) ~= 'table' or type(value[2]) ~= 'string' then return nil end
  local asked = value[4]
  if type(asked) == 'table' then return value[2], asked[2] end
  return value[2], ''
end

local why = {}
for number = 1, digests do
  local place = prefix .. ARGV[3 + number]
  local ids = redis.call('LRANGE', place, 0, -1)
  local told_else, account = false, false
  for at = #ids, 1, -1 do
    local entry, text = prefix .. 'e:' .. ids[at], nil
    if redis.call('STRLEN', entry) <= 1048576 then text = redis.call('GET', entry) end -- a longer one is not ours
    local user, told = nil, nil
    if text then user, told = read(text) end
    if user == nil then
      redis.call('LREM', place, 0, ids[at])
    elseif told ~= ARGV[1] then
      told_else = true
    elseif not usable[user] then
      account = true
    else
      for _, digest in ipairs(remove(ids[at])) do
        redis.call('SET', prefix .. 'busy:' .. digest, '1', 'PX', ARGV[2])
      end
      return {number, text}
    end
  end
  if told_else then
    why[number] = 'tools'
  elseif account then
    why[number] = 'account'
  elseif redis.call('EXISTS', prefix .. 'busy:' .. ARGV[3 + number]) == 1 then
    why[number] = 'busy'
  else
    why[number] = 'unknown'
  end
end
return {0, unpack(why)}
