-- SPDX-License-Identifier: Apache-2.0
-- Makes wrk print what it measured as one JSON object, in its last line.

function done(summary, latency, requests)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   io.write(string.format('{"requests": %d, "duration_us": %d, "failed": %d, ',
                          summary.requests, summary.duration, failed))
   io.write(string.format('"p50_us": %d, "p99_us": %d}\n',
                          latency:percentile(50), latency:percentile(99)))
end
