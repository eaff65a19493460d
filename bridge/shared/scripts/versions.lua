-- The versions of documents. KEYS: these. Returns for each its version, false where it has none, '' where what stands
-- there is no version, however long it is.
local found = {}
for at, key in ipairs(KEYS) do
  local size = redis.pcall('HSTRLEN', key, 'version')
  if size == 0 then
    found[at] = false
  elseif type(size) == 'number' and size < 16 then
    found[at] = redis.call('HGET', key, 'version')
  else
    found[at] = ''
  end
end
return found
