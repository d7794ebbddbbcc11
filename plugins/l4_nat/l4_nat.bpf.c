/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* l4_nat: stateful NAT. Both directions of established flows; the rest is in the files included. */
#include "tables.h"
#include "flow.h"
#include "state.h"
#include "back.h"
#include "insert.h"
#include "ports.h"
#include "create.h"
#include "progress.h"
#include "icmp.h"
#include "sweep.h"
#include "import.h"

/* The packet goes to the node of its flow, `node`. */
static __always_inline int l4_nat_to_node(struct gale_packet *p, struct gale_way *way,
					  struct l4_nat_slice_info *slice, struct gale_node *node,
					  u64 word)
{
	way->node = slice->node;
	way->reason = GALE_REASON_FORWARDED;
	way->hop = gale_node_hop(node);
	if (unlikely(!way->hop))
		return gale_refuse(way, GALE_REASON_NO_NEIGHBOUR);
#ifdef L4_NAT_DNAT
	__builtin_memcpy(way->rw.saddr, p->saddr, 4 * GALE_WORDS);
#else
	__builtin_memcpy(way->rw.saddr, slice->source, 4 * GALE_WORDS);
#endif
	__builtin_memcpy(way->rw.daddr, node->addr, 4 * GALE_WORDS);
	way->rw.sport = htons(l4_nat_second(word));
	way->rw.dport = slice->target_port;
	way->rw.ttl = 1;
	gale_trace_step(GALE_STEP_FLOW, l4_nat_second(word));
	return GALE_SEND;
}

/* The next packet of an established flow; everything else goes to l4_nat_forward_slow. */
static __always_inline int l4_nat_forward(GALE_CTX *ctx, struct gale_packet *p,
					  struct gale_target *t, struct gale_way *way)
{
	struct l4_nat_slice_info *slice;
	struct gale_node *node;
	struct l4_nat_key key;
	u16 now = gale_tick();
	u64 *entry, word;

	l4_nat_key_make(&key, p->family, p->saddr, ntohs(p->sport), way->service);
	entry = l4_nat_find(L4_NAT_FORWARD, p->family, &key, &word);
	if (unlikely(!entry))
		return gale_later(way, GALE_SLOW_L4_NAT_FORWARD_SLOW);
	slice = l4_nat_slice(l4_nat_first(word));
	if (unlikely(!slice))
		return gale_later(way, GALE_SLOW_L4_NAT_FORWARD_SLOW);
	node = gale_node_get(slice->node);
	if (unlikely(!node || l4_nat_special(p, node, word, now)))
		return gale_later(way, GALE_SLOW_L4_NAT_FORWARD_SLOW);
	if (l4_nat_age(word) != now)
		l4_nat_swap(entry, word, (word & ~0xffffULL) | now);
	return l4_nat_to_node(p, way, slice, node, word);
}

/* A packet whose flow may be new, begin, end, or have lost its node. */
static __always_inline int l4_nat_advance(struct gale_packet *p, struct gale_way *way,
					  struct gale_scratch *scratch)
{
	struct l4_nat_slice_info *slice;
	struct gale_node *node = NULL;
	struct l4_nat_key key;
	u64 *entry, word;
	int what;

	scratch->word = 0;
	l4_nat_key_make(&key, p->family, p->saddr, ntohs(p->sport), way->service);
	entry = l4_nat_find(L4_NAT_FORWARD, p->family, &key, &word);
	if (!entry)
		return gale_later(way, GALE_SLOW_L4_NAT_NEW);
	slice = l4_nat_slice(l4_nat_first(word));
	node = slice ? gale_node_get(slice->node) : NULL;
	what = node ? l4_nat_progress(p, node, &key, entry, word) : L4_NAT_AFRESH;
	if (what == L4_NAT_AFRESH) {
		scratch->word = word;
		return gale_later(way, GALE_SLOW_L4_NAT_NEW);
	}
	if (what == L4_NAT_RESET) {
		l4_nat_give_up(p->family, &key, entry, word);
		return gale_reply(p, way, GALE_REPLY_RESET, 0, GALE_REASON_NODE_GONE);
	}
	return l4_nat_to_node(p, way, slice, node, word);
}

int GALE_FN(l4_nat_forward_slow)(GALE_CTX *ctx)
{
	struct gale_scratch *scratch = gale_scratch_get();
	struct gale_packet packet;
	struct gale_way way = {};

	if (!scratch)
		return GALE_DROP;
	gale_take_over(scratch, &packet, &way);
	return gale_finish(ctx, &packet, &way, l4_nat_advance(&packet, &way, scratch));
}

/* The first packet of a flow, or one whose flow is finished: scratch->word, or 0. */
static __always_inline int l4_nat_begin(GALE_CTX *ctx, struct gale_packet *p, struct gale_way *way,
					u64 stale)
{
	struct gale_target target = { .service = gale_service_get(way->service) };
	struct l4_nat_slice_info *slice;
	struct gale_node *node;
	struct l4_nat_key key;
	u64 word = 0;
	int reason;

	if (!target.service)
		return gale_refuse(way, GALE_REASON_INTERNAL);
	l4_nat_key_make(&key, p->family, p->saddr, ntohs(p->sport), way->service);
	reason = l4_nat_create(p, &target, &key, stale, &word);
	if (reason)
		return gale_refuse(way, reason);
	slice = l4_nat_slice(l4_nat_first(word));
	node = slice ? gale_node_get(slice->node) : NULL;
	if (!node)
		return gale_refuse(way, GALE_REASON_NODE_GONE);
	l4_nat_learn_hop(ctx, p, &key, word);
	return l4_nat_to_node(p, way, slice, node, word);
}

int GALE_FN(l4_nat_new)(GALE_CTX *ctx)
{
	struct gale_scratch *scratch = gale_scratch_get();
	struct gale_packet packet;
	struct gale_way way = {};

	if (!scratch)
		return GALE_DROP;
	gale_take_over(scratch, &packet, &way);
	return gale_finish(ctx, &packet, &way, l4_nat_begin(ctx, &packet, &way, scratch->word));
}

/* What every answer writes: the client's next hop, the age, and that no RST was the last packet. */
#define L4_NAT_ANSWER_BITS	(0xffffULL << 32 | L4_NAT_RST << 16 | 0xffff)

/* The answer is noted in the node's direction; `hop` is the client's next hop or 0. */
static __always_inline void l4_nat_answered(struct gale_packet *p, struct l4_nat_client *c, u32 hop)
{
	u64 word = c->word & ~L4_NAT_ANSWER_BITS;

	word |= (u64)hop << 32 | L4_NAT_SEEN << 16 | gale_tick();
	if (unlikely(p->tcp_flags & (GALE_TCP_FIN | GALE_TCP_RST)))
		word |= (u64)l4_nat_tcp_state(0, p->tcp_flags) << 16;
	if (unlikely(word != c->word))
		l4_nat_swap(c->at, c->word, word);
}

/*
 * An answer that no flow is known for. Its flow may be one that a peer has made and not told of yet:
 * the kernel, which has the address, must not reset it. The node sends the answer again.
 */
static __always_inline int l4_nat_stray(struct l4_nat_client *c, struct gale_way *way)
{
	struct l4_nat_lease *lease = c->unknown ? l4_nat_lease_get() : NULL;

	if (!lease || !(lease->flags & L4_NAT_LEASE_PARTIAL))
		return GALE_NOT_MINE;
	return gale_refuse(way, GALE_REASON_NO_FLOW);
}

/* An answer: to its client. Only with `slow` the FIB is asked. */
static __always_inline int l4_nat_answer(GALE_CTX *ctx, struct gale_packet *p, struct gale_way *way,
					 int slow)
{
	struct gale_front front = {};
	struct l4_nat_client c = {};	/* wholly: words that IPv4 does not use are copied too */
	u32 hop;

	if (p->tags > 1)
		return GALE_NOT_MINE;
	if (!l4_nat_client_find(p->family, p->saddr, p->daddr, p->sport, p->dport, p->protocol, &c))
		return l4_nat_stray(&c, way);
	way->service = l4_nat_first(c.word);
	if (!gale_front_get(way->service, &front))
		return GALE_NOT_MINE;
	hop = l4_nat_second(c.word);
	way->reason = GALE_REASON_RETURNED;
	way->vlan = front.vlan;
	way->addr = l4_nat_self(way->service);
	gale_trace_step(GALE_STEP_FLOW, ntohs(p->dport));
	__builtin_memcpy(way->rw.saddr, front.addr, 4 * GALE_WORDS);
	__builtin_memcpy(way->rw.daddr, c.addr, 4 * GALE_WORDS);
	way->rw.sport = front.port;
	way->rw.dport = c.port;
	way->rw.ttl = 1;
	if (slow || !(p->flags & GALE_EGRESS)) {
		way->hop = gale_next_hop_get(hop);
		if (unlikely(!way->hop)) {
			if (!slow)
				return gale_later(way, GALE_SLOW_L4_NAT_RETURN_SLOW);
			way->hop = gale_fib(ctx, p, way->rw.saddr, way->rw.daddr, 0, &hop);
		}
		if (!way->hop)
			return gale_refuse(way, GALE_REASON_NO_NEIGHBOUR);
	}
	l4_nat_answered(p, &c, hop);
	return GALE_SEND;
}

static __always_inline int l4_nat_return(GALE_CTX *ctx, struct gale_packet *p, struct gale_way *way)
{
	return l4_nat_answer(ctx, p, way, 0);
}

/* An answer to a client whose next hop only the FIB knows. */
int GALE_FN(l4_nat_return_slow)(GALE_CTX *ctx)
{
	struct gale_scratch *scratch = gale_scratch_get();
	struct gale_packet packet;
	struct gale_way way = {};

	if (!scratch)
		return GALE_DROP;
	gale_take_over(scratch, &packet, &way);
	return gale_finish(ctx, &packet, &way, l4_nat_answer(ctx, &packet, &way, 1));
}
