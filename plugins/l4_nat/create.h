/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* New flows: choose a node, claim the way back, claim an entry, publish both. */
#ifndef GALELB_L4_NAT_CREATE_H
#define GALELB_L4_NAT_CREATE_H

/* With the lock held: choose a node that a packet can be sent to. 0 or a reason. */
static __always_inline int l4_nat_choose(struct gale_packet *p, struct gale_target *t)
{
	int reason = gale_target_select(p, t, p->saddr, ntohs(p->sport));

	if (reason)
		return reason;
#ifdef L4_NAT_DNAT
	/* the node would answer its own neighbour directly */
	if (gale_same_address(t->node->addr, p->saddr))
		return GALE_REASON_HAIRPIN;
#endif
	return gale_node_hop(p, t->node) ? 0 : GALE_REASON_NO_NEIGHBOUR;
}

/* Give back what was claimed for a flow that cannot be. */
static __always_inline int l4_nat_abandon(u64 *claimed, int reason)
{
	if (claimed)
		__sync_lock_test_and_set(claimed, L4_NAT_FREE);
	return reason;
}

/* An entry for the key: a free one, or one whose flow had to go. */
static __always_inline u64 *l4_nat_claim_entry(u32 family, struct l4_nat_key *k, u16 now)
{
	u64 *entry = l4_nat_claim_free(L4_NAT_FORWARD, family, k);

	return entry ? entry : l4_nat_evict(family, k, now);
}

/* With the lock held: make the flow, in place of the one in `stale` if there is one. */
static __always_inline int l4_nat_make(struct gale_packet *p, struct gale_target *t,
				       struct l4_nat_key *k, u64 *stale, u16 now, u64 *word)
{
	struct l4_nat_slice_key key = { .protocol = p->protocol, .family = p->family };
	struct l4_nat_new n = { .now = now };
	u32 state = p->protocol == GALE_IP_TCP ? L4_NAT_TCP : 0;
	u64 *entry = stale;
	int reason = l4_nat_choose(p, t);

	if (reason)
		return reason;
	__builtin_memcpy(key.node, t->node->addr, 16);
	key.target_port = t->service->target_port;
	if (stale && !l4_nat_retire(p->family, k, stale, *word))
		return GALE_REASON_FLOW_BUSY;
	reason = l4_nat_claim(&key, k, &n);
	if (reason)
		return l4_nat_abandon(entry, reason);
	if (!entry)
		entry = l4_nat_claim_entry(p->family, k, now);
	if (!entry)
		return l4_nat_abandon(n.back, GALE_REASON_TABLE_FULL);
	l4_nat_publish_back(p->family, &n, k, l4_nat_word(t->service_id, 0, state, now));
	if (state && p->tcp_flags & GALE_TCP_SYN)
		state |= L4_NAT_SYN;
	*word = l4_nat_word(n.slice, n.port, state, now);
	l4_nat_publish(entry, p->family, k, *word);
	return 0;
}

/* Whether this packet may begin a flow. */
static __always_inline int l4_nat_may_create(struct gale_packet *p)
{
	struct l4_nat_settings *settings = l4_nat_setting();

	if (p->protocol != GALE_IP_TCP)
		return 1;
	if (p->tcp_flags & GALE_TCP_RST)
		return 0;
	return p->tcp_flags & GALE_TCP_SYN ||
	       (settings && !(settings->flags & L4_NAT_SETTING_NO_ADOPT));
}

/* Find or make the flow; `stale` is a word that was judged finished, or 0. 0 or a reason. */
static __always_inline int l4_nat_create(struct gale_packet *p, struct gale_target *t,
					 struct l4_nat_key *k, u64 stale, u64 *word)
{
	u64 *lock, *entry;
	int reason = 0;

	if (!l4_nat_may_create(p))
		return GALE_REASON_NO_FLOW;
	lock = l4_nat_lock(k->hash);
	if (!lock)
		return GALE_REASON_FLOW_BUSY;
	entry = l4_nat_find(L4_NAT_FORWARD, p->family, k, word);
	if (!entry || (stale && !((*word ^ stale) >> 32)))
		reason = l4_nat_make(p, t, k, entry, gale_tick(), word);
	l4_nat_unlock(lock);
	return reason;
}

/* Ask once for the way back to the client; answers that find no object ask again. */
static __always_inline void l4_nat_learn_hop(GALE_CTX *ctx, struct gale_packet *p,
					     struct l4_nat_key *k, u64 word)
{
	u64 *at, back;
	u32 hop;

	gale_fib(ctx, p, p->daddr, p->saddr, &hop);
	at = hop ? l4_nat_back(p->family, k, word, &back) : NULL;
	if (at && !l4_nat_second(back))
		l4_nat_swap(at, back, back | (u64)hop << 32);
}

/* Forget a flow whose node is gone for good. */
static __always_inline void l4_nat_remove(u32 family, struct l4_nat_key *k, u64 *entry, u64 word)
{
	u64 *lock = l4_nat_lock(k->hash);

	if (!lock)
		return;
	if (l4_nat_retire(family, k, entry, word))
		__sync_lock_test_and_set(entry, L4_NAT_FREE);
	l4_nat_unlock(lock);
}

#endif
