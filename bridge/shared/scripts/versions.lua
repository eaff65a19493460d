-- The versions of documents. KEYS: the documents. Returns for each its version, false if it has none, or '' if the key or
-- its version is not the bridge's.
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
