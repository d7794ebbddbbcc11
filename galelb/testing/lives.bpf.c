/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Leads the lives of many flows through the program under test: each run judges what became of the
 * frame of the last one, then makes the next packet of the script and goes on by a tail call. The
 * node's packets are made of what the client's first packet became.
 */

#define LIVES_STEPS	8
#define LIVES_ANSWER	0x80	/* in a step: from the node; the rest is TCP flags */
#define LIVES_PASS	2
#define LIVES_ABORTED	0

/* What one thread does; 192 bytes, so that threads do not share a cache line. */
struct lives_lane {
	u64 left;		/* lives to come, the present one included */
	u64 turn;		/* lives so far */
	u64 random;		/* the last random number; 0 = flows come in turn */
	u32 first;		/* number of the first flow */
	u32 count;		/* of flows */
	u32 steps;
	u32 step;		/* what the last run did, plus one; 0 = nothing */
	u32 flow;		/* the present one */
	u32 node;		/* where its client's packets go: the last words of both addresses, */
	u32 source;
	u16 port;		/* and the source port */
	u16 pad;
	u8 script[LIVES_STEPS];
	u64 missed[LIVES_STEPS];	/* packets that were not forwarded, by step: the life ends there */
	u64 crossed;		/* answers that went to somebody else */
	u64 moved;		/* packets of the client that went another way than its first one */
	u64 ended;		/* lives that came to the end of the script */
	u64 began_ns;		/* when the first packet was made, the last one judged */
	u64 over_ns;
	u64 spare[3];
};

/* What frames are made of: 0 = the client's, 1 = the node's. */
struct lives_frame {
	u8 data[LIVES_LEN];
};

GALE_MAP("array", u32, struct lives_lane, lives_lanes, 4, BPF_F_MMAPABLE)
GALE_MAP("array", u32, struct lives_frame, lives_frames, 2, 0)
GALE_MAP("prog_array", u32, u32, lives_next, 1, 0)

#define LIVES_SADDR(data)	(*(u32 *)((data) + LIVES_AT_SADDR))
#define LIVES_DADDR(data)	(*(u32 *)((data) + LIVES_AT_DADDR))
#define LIVES_SPORT(data)	(*(u16 *)((data) + LIVES_AT_PORTS))
#define LIVES_DPORT(data)	(*(u16 *)((data) + LIVES_AT_PORTS + 2))
#define LIVES_FLAGS(data)	(*(u8 *)((data) + LIVES_AT_PORTS + 13))

static __always_inline u32 lives_client(u32 flow)
{
	return htonl(LIVES_CLIENTS + (flow >> LIVES_PORT_BITS));
}

static __always_inline u16 lives_client_port(u32 flow)
{
	return htons(1024 + (flow & ((1 << LIVES_PORT_BITS) - 1)));
}

/* The next flow: in turn, or at random (xorshift64, Marsaglia 2003). */
static __always_inline void lives_draw(struct lives_lane *l)
{
	u64 x = l->random;

	if (!x) {
		l->flow = l->first + l->turn % l->count;
		return;
	}
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	l->random = x;
	l->flow = l->first + ((u64)(u32)(x >> 32) * l->count >> 32);
}

static __always_inline void lives_end(struct lives_lane *l)
{
	l->step = 0;
	l->turn++;
	l->left--;
}

/* The client's packet came out: 1 = forwarded, and the same way as the first one. */
static __always_inline int lives_forwarded(struct lives_lane *l, void *data, u32 step)
{
	if (LIVES_DADDR(data) == LIVES_VIP)
		return 0;
	if (!step) {
		l->node = LIVES_DADDR(data);
		l->source = LIVES_SADDR(data);
		l->port = LIVES_SPORT(data);
	} else if (l->node != LIVES_DADDR(data) || l->source != LIVES_SADDR(data) ||
		   l->port != LIVES_SPORT(data)) {
		l->moved++;
	}
	return 1;
}

/* The node's packet came out: 1 = to whichever client. */
static __always_inline int lives_returned(struct lives_lane *l, void *data)
{
	if (LIVES_SADDR(data) == l->node)
		return 0;
	if (LIVES_SADDR(data) != LIVES_VIP || LIVES_SPORT(data) != htons(LIVES_PORT) ||
	    LIVES_DADDR(data) != lives_client(l->flow) ||
	    LIVES_DPORT(data) != lives_client_port(l->flow))
		l->crossed++;
	return 1;
}

static __always_inline void lives_judge(struct lives_lane *l, void *data)
{
	u32 step = (l->step - 1) & (LIVES_STEPS - 1);
	int good;

	if (l->script[step] & LIVES_ANSWER)
		good = lives_returned(l, data);
	else
		good = lives_forwarded(l, data, step);
	if (!good) {
		l->missed[step]++;
		lives_end(l);
	} else if (l->step >= l->steps) {
		l->ended++;
		lives_end(l);
	}
}

static __always_inline int lives_make(struct lives_lane *l, void *data)
{
	u32 step = l->step & (LIVES_STEPS - 1), answer = l->script[step] & LIVES_ANSWER ? 1 : 0;
	struct lives_frame *frame = lives_frames.lookup(&answer);

	if (!frame)
		return -1;
	__builtin_memcpy(data, frame, LIVES_LEN);
	if (answer) {
		LIVES_SADDR(data) = l->node;
		LIVES_DADDR(data) = l->source;
		LIVES_DPORT(data) = l->port;
	} else {
		LIVES_SADDR(data) = lives_client(l->flow);
		LIVES_SPORT(data) = lives_client_port(l->flow);
	}
	LIVES_FLAGS(data) = l->script[step] & ~LIVES_ANSWER;
	l->step++;
	return 0;
}

static __always_inline int lives_run(struct xdp_md *ctx, u32 lane)
{
	struct lives_lane *l = lives_lanes.lookup(&lane);
	void *data = (void *)(long)ctx->data;

	if (!l || !l->count || data + LIVES_LEN > (void *)(long)ctx->data_end)
		return LIVES_ABORTED;
	if (!l->began_ns)
		l->began_ns = bpf_ktime_get_ns();
	if (l->step)
		lives_judge(l, data);
	if (!l->left) {
		if (!l->over_ns)
			l->over_ns = bpf_ktime_get_ns();
		return LIVES_PASS;
	}
	if (!l->step)
		lives_draw(l);
	if (lives_make(l, data))
		return LIVES_ABORTED;
	lives_next.call(ctx, 0);
	return LIVES_ABORTED;
}

/* One for each thread. */
int lives_0(struct xdp_md *ctx)
{
	return lives_run(ctx, 0);
}

int lives_1(struct xdp_md *ctx)
{
	return lives_run(ctx, 1);
}

int lives_2(struct xdp_md *ctx)
{
	return lives_run(ctx, 2);
}

int lives_3(struct xdp_md *ctx)
{
	return lives_run(ctx, 3);
}

/* A program that forwards nothing: what this file costs by itself. */
int lives_floor(struct xdp_md *ctx)
{
	return LIVES_PASS;
}
