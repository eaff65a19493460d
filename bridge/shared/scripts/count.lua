-- Add a share of the statistics. KEYS: the leaves (bridge/statistics/leaves.py), the number of each process's last share.
-- ARGV: the process, the number of its share, how many entries a leaf of kind `latest` keeps, and for each leaf its path,
-- its kind and its row. A share is added only once and only after the one before it. Returns the number of the process's
-- last share, or -1 if there is no history yet.
if redis.call('HEXISTS', KEYS[2], '') == 0 then return -1 end
local known = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0) or 0
if known ~= tonumber(ARGV[2]) - 1 then return known end

-- The numbers in a part of a row: those without a word by place, and those with a word by that, in the words' order.
local function numbers(part)
  local found, words, order = {}, {}, {}
  for number in string.gmatch(part, '%S+') do
    local word, count = string.match(number, '^(.*):(%d+)$')
    if word then
      if not words[word] then order[#order + 1] = word end
      words[word] = (words[word] or 0) + tonumber(count)
    else
      found[#found + 1] = tonumber(number) or 0
    end
  end
  return {found = found, words = words, order = order}
end

local function parts(row)
  local found = {}
  for part in string.gmatch(row .. ' | ', '(.-) | ') do found[#found + 1] = numbers(part) end
  return found
end

local function added(row, more, usage)
  local sums, further = parts(row), parts(more)
  for at = 1, math.max(#sums, #further) do
    local both, more = sums[at] or numbers(''), further[at] or numbers('')
    local sum, it = both.found, more.found
    for number = 1, math.max(#sum, #it) do
      if usage and at == 1 and number == 5 then
        sum[number] = math.max(sum[number] or 0, it[number] or 0)
      else
        sum[number] = (sum[number] or 0) + (it[number] or 0)
      end
    end
    for number = 1, #sum do sum[number] = string.format('%.0f', sum[number]) end
    for _, word in ipairs(more.order) do
      if not both.words[word] then both.order[#both.order + 1] = word end
      both.words[word] = (both.words[word] or 0) + more.words[word]
    end
    for _, word in ipairs(both.order) do sum[#sum + 1] = word .. ':' .. string.format('%.0f', both.words[word]) end
    sums[at] = table.concat(sum, ' ')
  end
  return table.concat(sums, ' | ')
end

local function latest(list, more, count)
  local entries = {}
  for entry in string.gmatch(list .. ',' .. more, '[^,]+') do entries[#entries + 1] = entry end
  return table.concat(entries, ',', math.max(1, #entries - count + 1))
end

for at = 4, #ARGV, 3 do
  local path, kind, row = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local before = redis.call('HGET', KEYS[1], path)
  if before then
    if kind == 'first' then
      row = (tonumber(before) or 0) <= (tonumber(row) or 0) and before or row
    elseif kind == 'latest' then
      row = latest(before, row, tonumber(ARGV[3]))
    else
      row = added(before, row, kind == 'usage')
    end
  end
  redis.call('HSET', KEYS[1], path, row)
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return tonumber(ARGV[2])
