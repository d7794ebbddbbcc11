-- SPDX-License-Identifier: Apache-2.0
-- Makes wrk print what it measured as one JSON object, in its last line.

-- Threads send to these addresses in turn (BENCH_TO="ADDRESS ...", BENCH_PORT) instead of the URL's.
local addresses = {}

for address in string.gmatch(os.getenv("BENCH_TO"), "%S+") do
   addresses[#addresses + 1] = wrk.lookup(address, os.getenv("BENCH_PORT"))[1]
end

local threads = 0

function setup(thread)
   thread.addr = addresses[threads % #addresses + 1]
   threads = threads + 1
end

function done(summary, latency, requests)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   io.write(string.format('{"requests": %d, "duration_us": %d, "failed": %d, ',
                          summary.requests, summary.duration, failed))
   io.write(string.format('"p50_us": %d, "p99_us": %d}\n',
                          latency:percentile(50), latency:percentile(99)))
end
