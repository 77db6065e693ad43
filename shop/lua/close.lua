-- A purchase that claim.lua began has ended.
-- Keys: admissions (buyer → "nonce key purchases"), live (buyer → until when, ms).
-- Arguments: buyer, nonce, key, 1 if it sold, ms until every process knows how many units are left.
-- Result: none. Sold, the admission is used up; its unit counts as promised until it is seen to
-- be sold. Not sold, the admission is free for another key once no purchase under this one is on.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local admission = redis.call('HGET', KEYS[1], ARGV[1]) or ''
local nonce, key, purchases = string.match(admission, '^(%S+) (%S+) (%d+)$')
if nonce ~= ARGV[2] or key ~= ARGV[3] then
  return
end
if ARGV[4] == '1' then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('ZADD', KEYS[2], now + ARGV[5], 'sold ' .. nonce)
  redis.call('ZREM', KEYS[2], ARGV[1]) -- last: a set that was empty would lose its expiry
  return
end
purchases = purchases - 1
redis.call('HSET', KEYS[1], ARGV[1],
  string.format('%s %s %d', nonce, purchases > 0 and key or '-', purchases))
