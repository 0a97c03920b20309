-- wrk script: post the bodies of a file, one a line, from a random start on, or without a file GET the URL; print the
-- result as one line of JSON.
-- Usage: wrk ... -s load.lua URL -- [FILE]

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
   for line in io.lines(arguments[1]) do
      bodies[#bodies + 1] = wrk.format("POST", nil, {["Content-Type"] = "application/json"}, line)
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
