-- A buyer begins a purchase with his admission.
-- Keys: admissions (buyer → "nonce key purchases"), live (buyer → until when, ms).
-- Arguments: buyer, nonce, key of the purchase.
-- Result: 1, and the admission is for this key alone until its purchases end; or 0.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local admission = redis.call('HGET', KEYS[1], ARGV[1]) or ''
local nonce, key, purchases = string.match(admission, '^(%S+) (%S+) (%d+)$')
local live_until = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or 0)
if nonce ~= ARGV[2] or live_until <= now or (key ~= '-' and key ~= ARGV[3]) then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%s %s %d', nonce, ARGV[3], purchases + 1))
return 1
