-- wrk's script: what is asked, from its arguments, and what was heard, as one JSON object on standard error.
--
--   wrk ... -s wrk.lua URL -- METHOD BODY [NAME VALUE]...
--
-- There is neither a function request nor a response, so that wrk calls nothing here while it measures.

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
      '{"requests": %d, "microseconds": %d, "octets": %d, "refused": %d, "broken": %d, ' ..
      '"p50_us": %.1f, "p99_us": %.1f, "max_us": %.1f}\n',
      summary.requests, summary.duration, summary.bytes, errors.status,
      errors.connect + errors.read + errors.write + errors.timeout,
      latency:percentile(50), latency:percentile(99), latency.max))
end
