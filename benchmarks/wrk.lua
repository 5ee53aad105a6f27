-- Script for wrk: builds the request from its arguments and writes the results as one JSON object to standard error.
--
--   wrk ... -s wrk.lua URL -- METHOD BODY [NAME VALUE]...
--
-- It defines neither request() nor response(), so wrk calls no Lua code during the measurement.

function init(args) -- args[0] is the URL
   wrk.method = args[1]
   if args[2] ~= "" then
      wrk.body = args[2]
   end
   for i = 3, #args, 2 do
      wrk.headers[args[i]] = args[i + 1]
   end
end

function done(summary, latency)
   local errors = summary.errors
   io.stderr:write(string.format(
      '{"requests": %d, "microseconds": %d, "received": %d, "refused": %d, "broken": %d, ' ..
      '"p50_us": %.1f, "p99_us": %.1f, "max_us": %.1f}\n',
      summary.requests, summary.duration, summary.bytes, errors.status,
      errors.connect + errors.read + errors.write + errors.timeout,
      latency:percentile(50), latency:percentile(99), latency.max))
end
