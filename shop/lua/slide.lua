-- Keys: for each limit the list of its latest requests let through (µs, by Redis's clock).
-- Arguments: for each limit how many requests, in how many seconds.
-- Result: 0, and the request is counted under every limit; or the µs until all have room for it,
-- and nothing is counted.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local wait = 0
for i, key in ipairs(KEYS) do
  local oldest = redis.call('LINDEX', key, -ARGV[2 * i - 1])
  if oldest then
    wait = math.max(wait, oldest + ARGV[2 * i] * 1000000 - now)
  end
end
if wait > 0 then
  return wait
end
for i, key in ipairs(KEYS) do
  redis.call('RPUSH', key, string.format('%.0f', now))
  redis.call('LTRIM', key, -ARGV[2 * i - 1], -1)
  redis.call('EXPIRE', key, ARGV[2 * i])
end
return 0
