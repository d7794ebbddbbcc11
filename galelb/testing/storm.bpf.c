/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Makes a packet of many flows out of one frame, then runs the program under test on it. */

#define STORM_FRAME 128

/* What arrives on one interface; index = 0 for the first one asked for, 1 for the other. */
struct storm {
	u8 frame[STORM_FRAME];
	u64 drawn;
	u32 ifindex;
	u32 at;			/* offset of the port that varies */
	u32 first;		/* its smallest value */
	u32 count;		/* how many values */
	u32 share;		/* draws that get the same value; 0 = values are random */
	u32 flags_at;		/* offset of TCP flags, 0 = none */
	u8 flags[8];		/* one of these, at random */
};

GALE_MAP("array", u32, struct storm, storms, 2, 0)
GALE_MAP("prog_array", u32, u32, storm_next, 1, 0)

static __always_inline struct storm *storm_get(u32 index)
{
	return storms.lookup(&index);
}

static __always_inline void storm_put(void *data, void *end, u32 at, u8 value)
{
	u8 *place = data + (at & (STORM_FRAME - 1));

	if ((void *)(place + 1) <= end)
		*place = value;
}

int storm(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct storm *s = storm_get(0);
	u32 value;

	if (s && s->ifindex != ctx->ingress_ifindex)
		s = storm_get(1);
	if (!s || data + STORM_FRAME > end || !s->count)
		return XDP_ABORTED;
	__builtin_memcpy(data, s->frame, STORM_FRAME);
	if (s->share)
		value = __sync_fetch_and_add(&s->drawn, 1) / s->share;
	else
		value = bpf_get_prandom_u32();
	value = s->first + value % s->count;
	storm_put(data, end, s->at, value >> 8);
	storm_put(data, end, s->at + 1, value);
	if (s->flags_at)
		storm_put(data, end, s->flags_at, s->flags[bpf_get_prandom_u32() & 7]);
	storm_next.call(ctx, 0);
	return XDP_ABORTED;
}
