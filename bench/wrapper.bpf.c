/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Runs around the program under test: makes the frame anew, of a flow drawn at random, and goes on
 * in that program by a tail call. Without this each run would get the frame that the last one left.
 * Around a program that only returns XDP_TX, it is the floor that all costs are compared with.
 */

#define BENCH_TX	3
#define BENCH_ABORTED	0

/* What frames are made of. */
struct bench_template {
	u8 data[BENCH_LEN];
};

/* What a flow puts into the frame: the last words of both addresses, and both ports. */
struct bench_flow {
	u32 saddr;
	u32 daddr;
	u32 ports;
	u32 pad;
};

struct bench_state {
	u64 random;
	u64 runs;
};

/* 0 = the program under test */
GALE_MAP("prog_array", u32, u32, bench_target, 1, 0)
GALE_MAP("array", u32, struct bench_template, bench_templates, 1, 0)
#ifdef BENCH_TABLE
GALE_MAP("array", u32, struct bench_flow, bench_flows, BENCH_FLOWS, BPF_F_MMAPABLE)
#endif
GALE_MAP("array", u32, struct bench_state, bench_states, 1, BPF_F_MMAPABLE)

/* The next flow: in turn, or at random (xorshift64, Marsaglia 2003). */
static __always_inline u32 bench_draw(struct bench_state *state)
{
	u64 x = state->random;
	u32 turn = state->runs++;

#ifdef BENCH_IN_TURN
	return turn % BENCH_FLOWS;
#else
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	state->random = x;
	return (u64)(u32)(x >> 32) * BENCH_FLOWS >> 32;
#endif
}

/* Write flow number `n` into the frame. */
static __always_inline int bench_write(void *data, u32 n)
{
#ifdef BENCH_TABLE
	struct bench_flow *flow = bench_flows.lookup(&n);

	if (!flow)
		return -1;
	*(u32 *)(data + BENCH_SADDR) = flow->saddr;
	*(u32 *)(data + BENCH_DADDR) = flow->daddr;
	*(u32 *)(data + BENCH_PORTS) = flow->ports;
#else
	*(u32 *)(data + BENCH_SADDR) = htonl(BENCH_CLIENTS + (n >> BENCH_PORT_BITS));
	*(u16 *)(data + BENCH_PORTS) = htons(1024 + (n & ((1 << BENCH_PORT_BITS) - 1)));
#endif
	return 0;
}

int bench_wrapper(struct xdp_md *ctx)
{
	u32 zero = 0, grown = ctx->data_end - ctx->data - BENCH_LEN;
	struct bench_template *template = bench_templates.lookup(&zero);
	struct bench_state *state = bench_states.lookup(&zero);
	void *data;

	if (!template || !state || bpf_xdp_adjust_head(ctx, (int)grown))
		return BENCH_ABORTED;
	data = (void *)(long)ctx->data;
	if (data + BENCH_LEN > (void *)(long)ctx->data_end)
		return BENCH_ABORTED;
	__builtin_memcpy(data, template, BENCH_LEN);
	if (bench_write(data, bench_draw(state)))
		return BENCH_ABORTED;
	bench_target.call(ctx, 0);
	return BENCH_ABORTED;
}

/* The program of the floor. */
int bench_floor(struct xdp_md *ctx)
{
	return BENCH_TX;
}
