-- A visitor looks how the waiting room stands, enters it if need be, and whoever's turn it is
-- is let in. All times are by Redis's clock, in ms unless said otherwise.
-- Keys: room, places (buyer → place of those present), seen (buyer → when), away (buyer → place),
-- left (buyer → when), admissions (buyer → "nonce key purchases"), live (buyer → until when).
-- Arguments: buyer, the place drawn for him before the start, a name for a new epoch, epoch and
-- place ("early" or a number) of his token or "" "", when the sale opens, buyers a minute,
-- units left, and how long: one is present after a look, a place is kept, an admission lasts,
-- people with tokens are awaited after a loss, keys are kept; and how many places there are.
-- Result: a word, a number, the epoch, and
--   early, how many are here, …, "early"      waiting, his number (1 is next), …, his place
--   admitted, ms left to buy, …, the nonce    full, 0, …, ""
local room, places, seen, away, left, admissions, live = unpack(KEYS)
local buyer, drawn, new_epoch, token_epoch, token_place = unpack(ARGV, 1, 5)
local opens_at, a_minute, units = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local presence, kept, lasts, awaited = unpack(ARGV, 9, 12)
local keys_kept, most_places = ARGV[13], tonumber(ARGV[14])
local SWEEP = 200 -- at most so many of each kind in one look

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function leave(who) -- his place is kept, but nobody waits for him
  redis.call('HSET', away, who, redis.call('ZSCORE', places, who))
  redis.call('ZADD', left, now, who)
  redis.call('ZREM', places, who)
  redis.call('ZREM', seen, who)
end

local function sweep()
  for _, who in ipairs(redis.call('ZRANGE', live, '-inf', now, 'BYSCORE', 'LIMIT', 0, SWEEP)) do
    redis.call('HDEL', admissions, who)
    redis.call('ZREM', live, who)
  end
  local gone = redis.call('ZRANGE', seen, '-inf', now - presence, 'BYSCORE', 'LIMIT', 0, SWEEP)
  for _, who in ipairs(gone) do
    leave(who)
  end
  local lost = redis.call('ZRANGE', left, '-inf', now - kept, 'BYSCORE', 'LIMIT', 0, SWEEP)
  for _, who in ipairs(lost) do
    redis.call('HDEL', away, who)
    redis.call('ZREM', left, who)
  end
end

local function his_admission() -- and how long it lasts
  local ends = redis.call('ZSCORE', live, buyer)
  if ends and tonumber(ends) > now then
    return redis.call('HGET', admissions, buyer), ends - now
  end
end

local function last_place() -- later than every other, even when the clock was set back
  local place = math.max(time[1] * 1000000 + time[2], (redis.call('HGET', room, 'last') or 0) + 1)
  redis.call('HSET', room, 'last', string.format('%.0f', place))
  return place
end

local function place_for_him(epoch)
  local place = redis.call('HGET', away, buyer)
  if place then
    redis.call('HDEL', away, buyer)
    redis.call('ZREM', left, buyer)
    return place
  end
  if token_place ~= '' and token_epoch ~= epoch then -- his place was lost with an earlier epoch
    redis.call('HSETNX', room, 'resumes_at', now + awaited)
    return token_place == 'early' and drawn or token_place
  end
  return now < opens_at and drawn or string.format('%.0f', last_place())
end

local function let_in(epoch)
  if now < math.max(opens_at, redis.call('HGET', room, 'resumes_at') or 0) then
    return
  end
  local most = math.max(1, a_minute / 60) -- what a second without looks may save up
  local told = redis.call('HMGET', room, 'allowance', 'counted_at')
  local since = math.max(0, now - (told[2] or now))
  local allowance = math.min(most, (told[1] or most) + since * a_minute / 60000)
  local free = units - redis.call('ZCARD', live)
  while allowance >= 1 and free > 0 do
    local next_one = redis.call('ZRANGE', places, 0, 0)[1]
    if not next_one then
      break
    end
    if tonumber(redis.call('ZSCORE', seen, next_one) or 0) <= now - presence then
      leave(next_one)
    else
      local nonce = epoch .. ':' .. redis.call('HINCRBY', room, 'admitted', 1)
      redis.call('HSET', admissions, next_one, nonce .. ' - 0')
      redis.call('ZADD', live, now + lasts, next_one)
      redis.call('ZREM', places, next_one)
      redis.call('ZREM', seen, next_one)
      allowance, free = allowance - 1, free - 1
    end
  end
  redis.call('HSET', room, 'allowance', allowance, 'counted_at', string.format('%.0f', now))
end

redis.call('HSETNX', room, 'epoch', new_epoch)
local epoch = redis.call('HGET', room, 'epoch')
sweep()
if not his_admission() then
  if not redis.call('ZSCORE', places, buyer) then
    if redis.call('ZCARD', places) + redis.call('HLEN', away) >= most_places then
      return {'full', 0, epoch, ''}
    end
    redis.call('ZADD', places, place_for_him(epoch), buyer)
  end
  redis.call('ZADD', seen, now, buyer)
end
let_in(epoch)
for _, key in ipairs(KEYS) do
  redis.call('PEXPIRE', key, keys_kept)
end
local admission, ms_left = his_admission()
if admission then
  return {'admitted', ms_left, epoch, string.match(admission, '^%S+')}
end
if now < opens_at then
  return {'early', redis.call('ZCARD', places), epoch, 'early'}
end
local place = redis.call('ZSCORE', places, buyer)
return {'waiting', redis.call('ZRANK', places, buyer) + 1, epoch, string.format('%.0f', place)}
