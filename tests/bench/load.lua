-- wrk script: post the bodies of a file, one a line, from a random start on, or without a file GET the URL; print the
-- result as one line of JSON. With a media type the lines are bytes in hexadecimal digits of such bodies, else JSON.
-- Usage: wrk ... -s load.lua URL -- [FILE [TYPE]]

local threads = 0

function setup(thread)
   thread:set("number", threads)
   threads = threads + 1
end

function init(arguments)
   if arguments[1] == nil then
      bodies, place = { wrk.format("GET") }, 1
      return
   end
   bodies = {}
   local kind = arguments[2] or "application/json"
   for line in io.lines(arguments[1]) do
      local body = line
      if arguments[2] ~= nil then
         body = line:gsub("%x%x", function(byte) return string.char(tonumber(byte, 16)) end)
      end
      bodies[#bodies + 1] = wrk.format("POST", nil, {["Content-Type"] = kind}, body)
   end
   math.randomseed(number + 1)
   place = math.random(#bodies)
end

function request()
   place = place % #bodies + 1
   return bodies[place]
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "microseconds": %d, "connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d, ' ..
      '"p50": %d, "p90": %d, "p99": %d, "p999": %d, "max": %d}\n',
      summary.requests, summary.duration, errors.connect, errors.read, errors.write, errors.status, errors.timeout,
      latency:percentile(50), latency:percentile(90), latency:percentile(99), latency:percentile(99.9), latency.max))
end
