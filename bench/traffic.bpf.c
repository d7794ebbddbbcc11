/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Both ends of a network under load: makes packets of many flows at the clients' end, counts and
 * checks them at the nodes' end. Live frames come back with what programs wrote into them, so the
 * generator writes the whole frame each time.
 */

#define BENCH_DROP	1
#define BENCH_TX	3
#define BENCH_IPV4	htons(0x0800)
#define BENCH_IPIP	4
#define BENCH_UDP	17
#define BENCH_MAC	0x00000002	/* the first four bytes of every MAC address here */
#define BENCH_LAST	24		/* shift of an address' last byte, in network order */
#define BENCH_WRONG	0		/* index of what is not as wished */
#define BENCH_OTHER	256		/* and of what is not IPv4 */

struct bench_frame {
	u8 data[BENCH_LEN];
};

/* The frame from its IP header on. */
struct bench_packet {
	struct gale_ipv4 ip;
	struct gale_udp udp;
	u16 number[2];		/* of the flow, little endian */
	u16 rest[7];
};

/* What a flow puts into the frame; the checksums go with it. */
struct bench_flow {
	u32 saddr;
	u16 sport;
	u16 ip_check;
	u16 udp_check;
	u16 number[2];
	u16 pad;
};

struct bench_state {
	u64 random;
	u32 turn;
	u32 in_turn;
};

/* What has to arrive at nodes; all in network order. */
struct bench_wish {
	u32 network;		/* of the nodes; an address' last byte is the node's number */
	u32 vip;
	u32 tunnel;		/* IP in IP, to the node */
	u32 translated;		/* to the node's address instead of the VIP */
	u32 thorough;		/* check all sums, and remember whose packet came */
	u32 echo;		/* answer */
	u16 port;
	u16 pad;
};

GALE_MAP("array", u32, struct bench_frame, bench_frames, 1, 0)
GALE_MAP("array", u32, struct bench_flow, bench_flows, BENCH_FLOWS, 0)
GALE_MAP("array", u32, struct bench_state, bench_states, 1, 0)
GALE_MAP("array", u32, struct bench_wish, bench_wishes, 1, 0)
GALE_MAP("array", u32, u32, bench_seen, BENCH_FLOWS, 0)
/* Packets by the last byte of the node's address; and at the clients' end: wrong, right */
GALE_MAP("percpu_array", u32, u64, bench_arrived, 257, 0)
GALE_MAP("percpu_array", u32, u64, bench_answers, 2, 0)

/* The next flow: in turn, or at random (xorshift64, Marsaglia 2003). */
static __always_inline u32 bench_draw(struct bench_state *state)
{
	u64 x = state->random;

	if (state->in_turn)
		return state->turn++ % BENCH_FLOWS;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	state->random = x;
	return (u64)(u32)(x >> 32) * BENCH_FLOWS >> 32;
}

/* Run as live frames at the clients' end. */
int gale_bench_generate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	struct bench_packet *packet = data + sizeof(struct gale_eth);
	u32 zero = 0, n;
	struct bench_frame *frame = bench_frames.lookup(&zero);
	struct bench_state *state = bench_states.lookup(&zero);
	struct bench_flow *flow;

	if (!frame || !state || data + BENCH_LEN > (void *)(long)ctx->data_end)
		return BENCH_DROP;
	n = bench_draw(state);
	flow = bench_flows.lookup(&n);
	if (!flow)
		return BENCH_DROP;
	__builtin_memcpy(data, frame, BENCH_LEN);
	packet->ip.saddr = flow->saddr;
	packet->ip.check = flow->ip_check;
	packet->udp.sport = flow->sport;
	packet->udp.check = flow->udp_check;
	packet->number[0] = flow->number[0];
	packet->number[1] = flow->number[1];
	return BENCH_TX;
}

static __always_inline u32 bench_sum(const u16 *words, u32 count)
{
	u32 sum = 0;

#pragma unroll
	for (u32 i = 0; i < 13; i++)
		if (i < count)
			sum += words[i];
	return sum;
}

static __always_inline int bench_is_right(u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

/* Whether both checksums hold; remembers the flow. */
static __always_inline int bench_examine(struct bench_packet *packet)
{
	u32 n = packet->number[0] | (u32)packet->number[1] << 16;
	u32 *seen = bench_seen.lookup(&n);
	u32 pseudo = bench_sum((u16 *)&packet->ip.saddr, 4) + packet->udp.len + htons(BENCH_UDP);

	if (!seen || !bench_is_right(bench_sum((u16 *)&packet->ip, 10)))
		return 0;
	(*seen)++;
	return bench_is_right(pseudo + bench_sum((u16 *)&packet->udp, 13));
}

/* Make an answer of a packet. */
static __always_inline void bench_turn(struct gale_eth *eth, struct bench_packet *packet)
{
	struct gale_eth was = *eth;
	u32 addr = packet->ip.saddr;
	u16 port = packet->udp.sport;

	__builtin_memcpy(eth->dst, was.src, 6);
	__builtin_memcpy(eth->src, was.dst, 6);
	packet->ip.saddr = packet->ip.daddr;
	packet->ip.daddr = addr;
	packet->udp.sport = packet->udp.dport;
	packet->udp.dport = port;
}

static __always_inline int bench_count(u32 index)
{
	u64 *count = bench_arrived.lookup(&index);

	if (count)
		(*count)++;
	return BENCH_DROP;
}

/* At the nodes' end: counts what is for a node and as wished, by node. */
int gale_bench_sink(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct gale_eth *eth = data;
	struct bench_packet *packet = data + sizeof(*eth);
	u32 zero = 0, node;
	struct bench_wish *wish = bench_wishes.lookup(&zero);

	if (!wish || data + BENCH_LEN > end)
		return bench_count(BENCH_WRONG);
	if (eth->type != BENCH_IPV4)
		return bench_count(BENCH_OTHER);
	if (*(u32 *)eth->dst != BENCH_MAC || eth->dst[4])
		return bench_count(BENCH_WRONG);
	node = wish->network | (u32)eth->dst[5] << BENCH_LAST;
	if (wish->tunnel) {
		if (packet->ip.protocol != BENCH_IPIP || packet->ip.daddr != node)
			return bench_count(BENCH_WRONG);
		packet = (void *)packet + sizeof(struct gale_ipv4);
		if ((void *)packet + BENCH_LEN - sizeof(*eth) > end)
			return bench_count(BENCH_WRONG);
	}
	if (packet->ip.protocol != BENCH_UDP || packet->udp.dport != wish->port ||
	    packet->ip.daddr != (wish->translated ? node : wish->vip))
		return bench_count(BENCH_WRONG);
	if (wish->thorough && !bench_examine(packet))
		return bench_count(BENCH_WRONG);
	bench_count(eth->dst[5]);
	if (!wish->echo)
		return BENCH_DROP;
	bench_turn(eth, packet);
	/* XDP_TX would need a program at the other end of a veth. */
	return bpf_redirect(ctx->ingress_ifindex, 0);
}

/* At the clients' end: counts answers, which come from the VIP. */
int gale_bench_client(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	struct gale_eth *eth = data;
	struct bench_packet *packet = data + sizeof(*eth);
	u32 zero = 0, right;
	struct bench_wish *wish = bench_wishes.lookup(&zero);
	u64 *count;

	if (!wish || data + BENCH_LEN > (void *)(long)ctx->data_end || eth->type != BENCH_IPV4)
		return BENCH_DROP;
	right = packet->ip.saddr == wish->vip && packet->udp.sport == wish->port &&
		bench_examine(packet);
	count = bench_answers.lookup(&right);
	if (count)
		(*count)++;
	return BENCH_DROP;
}

/* What a balancer costs at least: all that comes in goes out at the other side. */
int gale_bench_redirect(struct xdp_md *ctx)
{
	return bpf_redirect(BENCH_OUT, 0);
}
