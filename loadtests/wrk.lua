-- Buyers for wrk, as browsers: each sends its cookies, its token and a key of its own.
-- Arguments: orders file (a line each: key, cookies, token, by tabs), record file, path, origin.
-- The record gets, as it happens (moments in monotonic seconds, the clock of Python's too):
--   >  key  started_at
--   <  key or -  ended_at  status  Server-Timing or -  body
-- Answers come in any order and without their request, so the shop echoes the key.

local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds; long nanoseconds; } moment;
  int clock_gettime(int clock, moment *now);
]]
local CLOCK_MONOTONIC = 1
local FOREVER_MS = 3600000
local moment = ffi.new("moment")

local buyers, record, path, origin = {}, nil, nil, nil
local promised, sent, looked_at = 0, 0, false

local function now()
  ffi.C.clock_gettime(CLOCK_MONOTONIC, moment)
  return tonumber(moment.seconds) + tonumber(moment.nanoseconds) / 1e9
end

function init(args)
  path, origin = args[3], args[4]
  for line in io.lines(args[1]) do
    local key, cookies, token = line:match("^([^\t]*)\t([^\t]*)\t(.*)$")
    local body = "quantity=1&key=" .. key .. "&csrfmiddlewaretoken=" .. token
    local request = wrk.format("POST", path, {
      ["Host"] = wrk.headers["Host"],
      ["Accept"] = "application/json",
      ["Content-Type"] = "application/x-www-form-urlencoded",
      ["Cookie"] = cookies,
      ["Idempotency-Key"] = key,
      ["Origin"] = origin,
    }, body)
    buyers[#buyers + 1] = { key = key, request = request }
  end
  record = io.open(args[2], "w")
  record:setvbuf("line")
end

-- wrk asks before every request; whoever finds no buyer left waits for the end.
function delay()
  if promised < #buyers then
    promised = promised + 1
    return 0
  end
  return FOREVER_MS
end

function request()
  -- wrk looks at one request before the load; a connection made anew may find no buyer left.
  if not looked_at or sent >= #buyers then
    looked_at = true
    return wrk.format("GET", "/healthz")
  end
  sent = sent + 1
  local buyer = buyers[sent]
  record:write(string.format(">\t%s\t%.6f\n", buyer.key, now()))
  return buyer.request
end

function response(status, headers, body)
  local ended_at = now()
  local key, timing = "-", "-"
  for name, value in pairs(headers) do
    local lower = name:lower()
    if lower == "idempotency-key" then key = value end
    if lower == "server-timing" then timing = value end
  end
  local text = body:gsub("[\r\n\t]", " ")
  record:write(string.format("<\t%s\t%.6f\t%d\t%s\t%s\n", key, ended_at, status, timing, text))
end
