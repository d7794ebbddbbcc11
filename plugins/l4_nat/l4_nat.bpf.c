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

/* From here on the packet goes to the node of its flow, t->node. */
static __always_inline int l4_nat_to_node(GALE_CTX *ctx, struct gale_packet *p,
					  struct gale_target *t, u64 word)
{
	struct l4_nat_slice_info *slice = l4_nat_slice(l4_nat_first(word));
	struct gale_rewrite rw = { .ttl = 1 };
	struct gale_way way = { .service = t->service_id };

	if (!slice)
		return gale_drop(p, GALE_REASON_INTERNAL, t->service_id);
	way.node = slice->node;

	way.reason = GALE_REASON_FORWARDED;
	way.hop = gale_node_hop(p, t->node);
	if (!way.hop)
		return gale_drop(p, GALE_REASON_NO_NEIGHBOUR, t->service_id);
#ifdef L4_NAT_DNAT
	__builtin_memcpy(rw.saddr, p->saddr, 4 * GALE_WORDS);
#else
	__builtin_memcpy(rw.saddr, slice->source, 4 * GALE_WORDS);
#endif
	__builtin_memcpy(rw.daddr, t->node->addr, 4 * GALE_WORDS);
	rw.sport = htons(l4_nat_second(word));
	rw.dport = slice->target_port;
	return gale_send(ctx, p, &rw, &way, p->daddr);
}

/* Hand over to l4_nat_new: there is no flow, or `stale` is the word of one that is finished. */
static __always_inline int l4_nat_afresh(GALE_CTX *ctx, struct gale_packet *p,
					 struct gale_scratch *scratch, u64 stale)
{
	scratch->word = stale;
	gale_tail(ctx, GALE_SLOW_L4_NAT_NEW);
	return gale_drop(p, GALE_REASON_INTERNAL, scratch->service);
}

/* A packet that is not simply the next one of an established flow. */
int GALE_FN(l4_nat_special)(GALE_CTX *ctx)
{
	struct gale_scratch *scratch = gale_scratch_get();
	struct gale_packet packet, *p = &packet;
	struct gale_target target = {}, *t = &target;
	struct l4_nat_key key;
	u64 *entry, word;
	int what;

	if (!scratch)
		return GALE_DROP;
	gale_take_over(scratch, p);
	t->service_id = scratch->service;
	l4_nat_key_make(&key, p->family, p->saddr, ntohs(p->sport), t->service_id);
	entry = l4_nat_find(L4_NAT_FORWARD, p->family, &key, &word);
	if (!entry)
		return l4_nat_afresh(ctx, p, scratch, 0);
	what = l4_nat_progress(p, t, &key, entry, word);
	if (what == L4_NAT_AFRESH)
		return l4_nat_afresh(ctx, p, scratch, word);
	if (what == L4_NAT_GO_ON)
		return l4_nat_to_node(ctx, p, t, word);
	l4_nat_give_up(p->family, &key, entry, word);
	return gale_reply(ctx, p, GALE_REPLY_RESET, 0, p->daddr, t->service_id,
			  GALE_REASON_NODE_GONE);
}

/* The first packet of a flow, or one whose flow is finished: scratch->word, or 0. */
int GALE_FN(l4_nat_new)(GALE_CTX *ctx)
{
	struct gale_scratch *scratch = gale_scratch_get();
	struct gale_packet packet, *p = &packet;
	struct gale_target target = {}, *t = &target;
	struct l4_nat_slice_info *slice;
	struct l4_nat_key key;
	u64 word = 0;
	int reason;

	if (!scratch)
		return GALE_DROP;
	gale_take_over(scratch, p);
	t->service_id = scratch->service;
	t->service = gale_service_get(t->service_id);
	if (!t->service)
		return gale_drop(p, GALE_REASON_INTERNAL, 0);
	l4_nat_key_make(&key, p->family, p->saddr, ntohs(p->sport), t->service_id);
	reason = l4_nat_create(p, t, &key, scratch->word, &word);
	if (reason)
		return gale_drop(p, reason, t->service_id);
	slice = l4_nat_slice(l4_nat_first(word));
	t->node = slice ? gale_node_get(slice->node) : NULL;
	if (!t->node)
		return gale_drop(p, GALE_REASON_NODE_GONE, t->service_id);
	l4_nat_learn_hop(ctx, p, &key, word);
	return l4_nat_to_node(ctx, p, t, word);
}

static __always_inline int l4_nat_forward(GALE_CTX *ctx, struct gale_packet *p,
					  struct gale_target *t)
{
	struct l4_nat_slice_info *slice;
	struct l4_nat_key key;
	u16 now = gale_tick();
	u64 *entry, word;

	l4_nat_key_make(&key, p->family, p->saddr, ntohs(p->sport), t->service_id);
	entry = l4_nat_find(L4_NAT_FORWARD, p->family, &key, &word);
	if (unlikely(!entry))
		goto special;
	slice = l4_nat_slice(l4_nat_first(word));
	if (unlikely(!slice))
		goto special;
	t->node = gale_node_get(slice->node);
	if (unlikely(!t->node || l4_nat_special(p, t->node, word, now)))
		goto special;
	if (l4_nat_age(word) != now)
		l4_nat_swap(entry, word, (word & ~0xffffULL) | now);
	return l4_nat_to_node(ctx, p, t, word);
special:
	gale_hand_over(ctx, p, GALE_SLOW_L4_NAT_SPECIAL, t->service_id);
	return gale_drop(p, GALE_REASON_INTERNAL, t->service_id);
}

/* The answer is noted in the node's direction; `hop` is the client's next hop or 0. */
static __always_inline void l4_nat_answered(struct gale_packet *p, struct l4_nat_client *c, u32 hop)
{
	u32 state = l4_nat_state(c->word);
	u64 word;

	if (p->protocol == GALE_IP_TCP)
		state = l4_nat_tcp_state(state, p->tcp_flags);
	word = l4_nat_word(l4_nat_first(c->word), hop, state | L4_NAT_SEEN, gale_tick());
	if (word != c->word)
		l4_nat_swap(c->at, c->word, word);
}

static __always_inline int l4_nat_to_client(GALE_CTX *ctx, struct gale_packet *p,
					    struct l4_nat_client *c, int slow)
{
	struct gale_service *service = gale_service_get(l4_nat_first(c->word));
	struct gale_rewrite rw = { .ttl = 1 };
	struct gale_way way = { .reason = GALE_REASON_RETURNED };
	u32 hop = l4_nat_second(c->word);

	if (!service || !service->protocol)
		return GALE_NOT_MINE;
	way.service = l4_nat_first(c->word);
	way.vlan = service->vlan;
	__builtin_memcpy(rw.saddr, service->addr, 4 * GALE_WORDS);
	__builtin_memcpy(rw.daddr, c->addr, 4 * GALE_WORDS);
	rw.sport = service->port;
	rw.dport = c->port;
	if (slow || !(p->flags & GALE_EGRESS)) {
		way.hop = gale_next_hop_get(hop);
		if (unlikely(!way.hop)) {
			if (!slow) {
				gale_hand_over(ctx, p, GALE_SLOW_L4_NAT_ROUTE, 0);
				return gale_drop(p, GALE_REASON_INTERNAL, way.service);
			}
			way.hop = gale_fib(ctx, p, rw.saddr, rw.daddr, 0, &hop);
		}
		if (!way.hop)
			return gale_drop(p, GALE_REASON_NO_NEIGHBOUR, way.service);
	}
	l4_nat_answered(p, c, hop);
	return gale_send(ctx, p, &rw, &way, l4_nat_self(p, service));
}

static __always_inline int l4_nat_answer(GALE_CTX *ctx, struct gale_packet *p, int slow)
{
	struct l4_nat_client client;

	if (p->tags > 1 || !l4_nat_client_find(p->family, p->saddr, p->daddr, p->sport, p->dport,
					       p->protocol, &client))
		return GALE_NOT_MINE;
	return l4_nat_to_client(ctx, p, &client, slow);
}

static __always_inline int l4_nat_return(GALE_CTX *ctx, struct gale_packet *p)
{
	return l4_nat_answer(ctx, p, 0);
}

/* An answer to a client whose next hop only the FIB knows. */
int GALE_FN(l4_nat_route)(GALE_CTX *ctx)
{
	struct gale_scratch *scratch = gale_scratch_get();
	struct gale_packet packet;
	int verdict;

	if (!scratch)
		return GALE_DROP;
	gale_take_over(scratch, &packet);
	verdict = l4_nat_answer(ctx, &packet, 1);
	if (verdict == GALE_NOT_MINE)
		return gale_exit(&packet, GALE_PASS, GALE_REASON_PASS_FOREIGN, 0, 0);
	return verdict;
}
