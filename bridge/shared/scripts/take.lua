-- Take the evaluation that a request continues, so that no other request can. KEYS: the evaluations' prefix (put.lua).
-- ARGV: the digest of its model's instructions ('' for none), for how many ms it is then marked as busy, how many digests
-- to look for, these in the order in which they are tried, and the user ids of the accounts that may be used.
-- Returns the number of the digest that it was found by, and its JSON; or 0, and for each digest why none was found.
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

-- The account and the digest of the instructions in an evaluation's JSON; nil if that cannot be read.
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
  local other_instructions, other_account = false, false
  for at = #ids, 1, -1 do
    local entry, text = prefix .. 'e:' .. ids[at], nil
    if redis.call('STRLEN', entry) <= 1048576 then text = redis.call('GET', entry) end -- a longer one is not the bridge's
    local user, instructions = nil, nil
    if text then user, instructions = read(text) end
    if user == nil then
      redis.call('LREM', place, 0, ids[at])
    elseif instructions ~= ARGV[1] then
      other_instructions = true
    elseif not usable[user] then
      other_account = true
    else
      for _, digest in ipairs(remove(ids[at])) do
        redis.call('SET', prefix .. 'busy:' .. digest, '1', 'PX', ARGV[2])
      end
      return {number, text}
    end
  end
  if other_instructions then
    why[number] = 'tools'
  elseif other_account then
    why[number] = 'account'
  elseif redis.call('EXISTS', prefix .. 'busy:' .. ARGV[3 + number]) == 1 then
    why[number] = 'busy'
  else
    why[number] = 'unknown'
  end
end
return {0, unpack(why)}
