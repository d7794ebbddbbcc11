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
	return gale_node_hop(t->node) ? 0 : GALE_REASON_NO_NEIGHBOUR;
}

/* An entry for the key: a free one, or one whose flow had to go. */
static __always_inline u64 *l4_nat_claim_entry(u32 family, struct l4_nat_key *k, u16 now)
{
	u64 *entry = l4_nat_claim_free(L4_NAT_FORWARD, family, k);

	return entry ? entry : l4_nat_evict(family, k, now);
}

/* With the lock held: take a flow out of the table. 0 = it changed meanwhile. */
static __always_inline int l4_nat_remove(u32 family, struct l4_nat_key *k, u64 *entry, u64 word)
{
	if (!l4_nat_retire(family, k, entry, word))
		return 0;
	__sync_lock_test_and_set(entry, L4_NAT_FREE);
	return 1;
}

static __always_inline u32 l4_nat_first_state(struct gale_packet *p)
{
	if (p->protocol != GALE_IP_TCP)
		return 0;
	return p->tcp_flags & GALE_TCP_SYN ? L4_NAT_TCP | L4_NAT_SYN : L4_NAT_TCP;
}

/* In a group: remember for user space where the new flow is. One that reads too early misses it. */
static __always_inline void l4_nat_note(u32 family, u64 hash)
{
	struct l4_nat_lease *lease = l4_nat_lease_get();
	u32 at = 0;
	u64 *note;

	if (!lease || lease->until == L4_NAT_FOR_EVER)
		return;
	note = l4_nat_news.lookup(&at);
	if (!note)
		return;
	at = 1 + (__sync_fetch_and_add(note, 1) & (L4_NAT_NEWS - 1));
	note = l4_nat_news.lookup(&at);
	if (note)
		*note = family == GALE_FAMILY_IPV6 ? hash | 1ULL << 31 : hash & ~(1ULL << 31);
}

/* With the lock held and no entry there: make the flow. 0 or a reason. */
static __always_inline int l4_nat_make(struct gale_packet *p, struct gale_target *t,
				       struct l4_nat_key *k, u16 now, u64 *word)
{
	struct l4_nat_slice_key key = { .protocol = p->protocol, .family = p->family };
	struct l4_nat_new n = { .now = now };
	int reason = l4_nat_choose(p, t);
	u32 state;
	u64 *entry;

	if (reason)
		return reason;
	key.target_port = t->service->target_port;
#ifdef L4_NAT_DNAT
	/* a node would answer its own neighbour directly */
	__builtin_memcpy(key.node, p->saddr, 4 * GALE_WORDS);
	if (l4_nat_slices.lookup(&key))
		return GALE_REASON_HAIRPIN;
#endif
	__builtin_memcpy(key.node, t->node->addr, 16);
	reason = l4_nat_claim(p->family, &key, k, &n);
	if (reason)
		return reason;
	entry = l4_nat_claim_entry(p->family, k, now);
	if (!entry) {
		__sync_lock_test_and_set(n.back, L4_NAT_FREE);
		return GALE_REASON_TABLE_FULL;
	}
	state = l4_nat_first_state(p);
	l4_nat_publish_back(p->family, &n, k,
			    l4_nat_word(k->key & 0xffff, 0, state & L4_NAT_TCP, now));
	*word = l4_nat_word(n.slice, n.port, state, now);
	gale_trace_step(GALE_STEP_FLOW_MADE, n.port);
	l4_nat_publish(entry, p->family, k, *word);
	l4_nat_note(p->family, k->hash);
	return 0;
}

/* Why this packet may not begin a flow; 0 = it may. Asked of no packet that has one. */
static __always_inline int l4_nat_forbidden(struct gale_packet *p)
{
	struct l4_nat_lease *lease = l4_nat_lease_get();

	if (!lease)
		return GALE_REASON_INTERNAL;
	if (p->protocol == GALE_IP_TCP &&
	    (p->tcp_flags & GALE_TCP_RST ||
	     (!(p->tcp_flags & GALE_TCP_SYN) && lease->flags & L4_NAT_LEASE_PARTIAL)))
		return GALE_REASON_NO_FLOW;
	/* the clock costs as much as all the rest: a lone balancer has no need of it */
	if (lease->until != L4_NAT_FOR_EVER && bpf_ktime_get_ns() >= lease->until)
		return GALE_REASON_NO_LEASE;
	return 0;
}

/* Find or make the flow; `stale` is a word that was judged finished, or 0. 0 or a reason. */
static __always_inline int l4_nat_create(struct gale_packet *p, struct gale_target *t,
					 struct l4_nat_key *k, u64 stale, u64 *word)
{
	u64 *lock, *entry;
	int reason = l4_nat_forbidden(p);

	if (reason)
		return reason;
	lock = l4_nat_lock(k->hash);
	if (!lock)
		return GALE_REASON_FLOW_BUSY;
	p->protocol = l4_nat_forget(p->protocol, k->hash);
	entry = l4_nat_find(L4_NAT_FORWARD, p->family, k, word);
	if (entry && stale && !((*word ^ stale) >> 32) && l4_nat_remove(p->family, k, entry, *word))
		entry = NULL;
	if (!entry)
		reason = l4_nat_make(p, t, k, gale_tick(), word);
	l4_nat_unlock(lock);
	return reason;
}

/* Ask once for the way back to the client; answers that find no object ask again. */
static __always_inline void l4_nat_learn_hop(GALE_CTX *ctx, struct gale_packet *p,
					     struct l4_nat_key *k, u64 word)
{
	u64 *at, back;
	u32 hop;

	gale_fib(ctx, p, p->daddr, p->saddr, 1, &hop);
	at = hop ? l4_nat_back(p->family, k, word, &back) : NULL;
	if (at && !l4_nat_second(back))
		l4_nat_swap(at, back, back | (u64)hop << 32);
}

/* Forget a flow whose node is gone for good. */
static __always_inline void l4_nat_give_up(u32 family, struct l4_nat_key *k, u64 *entry, u64 word)
{
	u64 *lock = l4_nat_lock(k->hash);

	if (!lock)
		return;
	l4_nat_remove(family, k, entry, word);
	l4_nat_unlock(lock);
}

#endif
