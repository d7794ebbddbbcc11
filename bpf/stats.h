/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The one exit: every verdict leaves through gale_exit, which counts it. */
#ifndef GALELB_STATS_H
#define GALELB_STATS_H

static __always_inline void gale_count(struct gale_counter *counter, u32 bytes)
{
	if (!counter)
		return;
	counter->packets++;
	counter->bytes += bytes;
}

static __always_inline struct gale_counter *gale_service_counter(u32 service, u32 reason)
{
	u32 index = service * GALE_REASONS + reason;

	return gale_service_stats.lookup(&index);
}

static __always_inline struct gale_counter *gale_node_counter(u32 node)
{
	return gale_node_stats.lookup(&node);
}

/* `service` 0 = none, `node` 0 = not sent to a node. Bytes are those of the frame's headers and
 * IP packet as it arrived. */
static __always_inline int gale_exit(GALE_CTX *ctx, struct gale_packet *p, int verdict, u32 reason,
				     u32 service, u32 node)
{
	u32 bytes = p->l3 + p->len;

	gale_trace_exit(verdict, reason, service, node);
	gale_count(gale_service_counter(service, reason), bytes);
	if (node)
		gale_count(gale_node_counter(node), bytes);
	gale_capture_out(ctx, p, verdict, reason, service, node);
	return verdict;
}

static __always_inline struct gale_scratch *gale_scratch_get(void)
{
	u32 zero = 0;

	return gale_scratch.lookup(&zero);
}

/* A token bucket of at most `rate` tokens that gains `rate` in a second. */
static __always_inline int gale_allowed(u64 *at, u32 *tokens, u32 rate)
{
	u64 now = bpf_jiffies64(), gain = (now - *at) * rate / GALE_HZ;

	if (gain) {
		*tokens = gain + *tokens > rate ? rate : gain + *tokens;
		*at = now;
	}
	if (!*tokens)
		return 0;
	(*tokens)--;
	return 1;
}

#endif
