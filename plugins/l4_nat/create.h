/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* New flows: choose a node, claim a port, claim an entry, publish both. */
#ifndef GALELB_L4_NAT_CREATE_H
#define GALELB_L4_NAT_CREATE_H

#define L4_NAT_SEARCH		128	/* ports looked at per packet and source address */
#define L4_NAT_TRIES		4	/* source addresses tried per packet */

/* A flow in the making. */
struct l4_nat_new {
	struct l4_nat_slice_info *slice;
	u64 *entry;		/* claimed entry */
	u64 *slot;		/* claimed slot */
	u32 id;			/* of the slice */
	u16 port;
	u16 now;
};

static __always_inline u64 *l4_nat_cursor(u32 slice)
{
	return l4_nat_cursors.lookup(&slice);
}

/* Free, or closed for so long that the node has forgotten it. */
static __always_inline int l4_nat_port_free(u64 word, u16 now)
{
	return !word || (word > L4_NAT_BUSY && word < L4_NAT_USED &&
			 l4_nat_older(now, word, L4_NAT_TCP_CLOSED));
}

/* Claim a port of the slice: the one that was closed longest ago comes first. 0 or a reason. */
static __always_inline int l4_nat_claim_port(u32 family, struct l4_nat_new *n,
					     struct l4_nat_slice *slice)
{
	u64 *cursor = l4_nat_cursor(slice->id);
	u32 start, i, offset;

	if (!cursor || !slice->count)
		return GALE_REASON_INTERNAL;
	start = __sync_fetch_and_add(cursor, 1) % slice->count;
	for (i = 0; i < L4_NAT_SEARCH; i++) {
		u64 *slot, word;

		offset = start + i;
		if (offset >= slice->count)
			offset -= slice->count;
		if (offset >= slice->count)
			break;
		slot = l4_nat_slot(family, slice->base + offset);
		if (!slot)
			break;
		word = L4_NAT_READ(*slot);
		if (l4_nat_port_free(word, n->now) && !L4_NAT_RESERVED_PORT(slice->first_port + offset) &&
		    l4_nat_swap(slot, word, L4_NAT_BUSY)) {
			n->slot = slot;
			n->port = slice->first_port + offset;
			break;
		}
	}
	if (i)
		__sync_fetch_and_add(cursor, i);
	return n->slot ? 0 : GALE_REASON_TABLE_FULL;
}

static __always_inline struct l4_nat_settings *l4_nat_setting(void)
{
	u32 zero = 0;

	return l4_nat_settings.lookup(&zero);
}

/* The slice of this node, service and the source address that number `pick` names. */
static __always_inline struct l4_nat_slice *l4_nat_slice_find(struct gale_packet *p,
							      struct gale_target *t, u32 pick)
{
	struct l4_nat_settings *settings = l4_nat_setting();
	struct l4_nat_slice_key key = { .protocol = p->protocol, .family = p->family };
	struct l4_nat_source *source;
	u32 index;

	if (!settings)
		return NULL;
#ifdef GALE_IPV6
	if (p->family == GALE_FAMILY_IPV6) {
		if (!settings->count6)
			return NULL;
		index = settings->sources6[pick % settings->count6 % L4_NAT_POOL];
	} else
#endif
	{
		if (!settings->count4)
			return NULL;
		index = settings->sources4[pick % settings->count4 % L4_NAT_POOL];
	}
	source = l4_nat_sources.lookup(&index);
	if (!source)
		return NULL;
	key.target_port = t->service->target_port;
	__builtin_memcpy(key.node, t->node->addr, 16);
	__builtin_memcpy(key.source, source->addr, 16);
	return l4_nat_slices.lookup(&key);
}

/* Claim a port of any source address; spread by hash, the next one when one is full. */
static __always_inline int l4_nat_claim(struct gale_packet *p, struct gale_target *t,
					struct l4_nat_new *n, u64 hash)
{
	int i, reason = GALE_REASON_TABLE_FULL;

	for (i = 0; i < L4_NAT_TRIES; i++) {
		struct l4_nat_slice *slice = l4_nat_slice_find(p, t, (u16)(hash >> 8) + i);

		if (!slice)
			continue;
		n->id = slice->id;
		n->slice = l4_nat_slice(slice->id);
		if (n->slice && !l4_nat_claim_port(p->family, n, slice))
			return 0;
	}
	return reason;
}

static __always_inline u32 l4_nat_free4(struct l4_nat_bucket4 *b)
{
	return !b->entry[0].word + !b->entry[1].word + !b->entry[2].word + !b->entry[3].word;
}

static __always_inline u64 *l4_nat_take4(struct l4_nat_bucket4 *b)
{
	int i;

	for (i = 0; i < L4_NAT_ENTRIES; i++)
		if (!L4_NAT_READ(b->entry[i].word) && l4_nat_swap(&b->entry[i].word, 0, L4_NAT_BUSY))
			return &b->entry[l4_nat_forget(i) & (L4_NAT_ENTRIES - 1)].word;
	return NULL;
}

/* Claim an entry: in the first bucket, unless it is nearly full and the second is emptier. */
static __always_inline u64 *l4_nat_claim4(int table, struct l4_nat_key *k)
{
	struct l4_nat_bucket4 *a = l4_nat_bucket4_get(table, l4_nat_index(k->hash, 0, L4_NAT_BUCKETS4));
	struct l4_nat_bucket4 *b = l4_nat_bucket4_get(table, l4_nat_index(k->hash, 1, L4_NAT_BUCKETS4));
	u32 room;
	u64 *at;

	if (!a || !b)
		return NULL;
	room = l4_nat_free4(a);
	if (room <= 1 && l4_nat_free4(b) > room) {
		at = l4_nat_take4(b);
		return at ? at : l4_nat_take4(a);
	}
	at = l4_nat_take4(a);
	return at ? at : l4_nat_take4(b);
}

static __always_inline u64 *l4_nat_claim_entry(int table, u32 family, struct l4_nat_key *k)
{
	return l4_nat_claim4(table, k);
}

/* With the lock held and the port and entry claimed: make both visible. */
static __always_inline u64 l4_nat_establish(struct gale_packet *p, struct gale_target *t,
					    struct l4_nat_key *k, struct l4_nat_new *n, u32 hop)
{
	u32 tcp = p->protocol == GALE_IP_TCP ? L4_NAT_TCP : 0;
	u32 state = tcp && p->tcp_flags & GALE_TCP_SYN ? tcp | L4_NAT_SYN : tcp;
	u64 word = l4_nat_word(n->id, n->port, state, n->now);

	l4_nat_publish(n->slot, p->family, k, l4_nat_word(t->service_id, hop, tcp, n->now));
	l4_nat_publish(n->entry, p->family, k, word);
	return word;
}

/* With the lock held: make the flow. Returns 0 or a reason. */
static __always_inline int l4_nat_make(GALE_CTX *ctx, struct gale_packet *p, struct gale_target *t,
				       struct l4_nat_key *k, u16 now, u64 *word)
{
	struct l4_nat_new n = { .now = now };
	u32 hop;
	int reason;

	reason = gale_target_select(p, t, p->saddr, ntohs(p->sport));
	if (reason)
		return reason;
	if (!gale_next_hop_get(t->node->next_hop))
		return GALE_REASON_NO_NEIGHBOUR;
	gale_fib(ctx, p, p->daddr, p->saddr, &hop);
	reason = l4_nat_claim(p, t, &n, k->hash);
	if (reason)
		return reason;
	n.entry = l4_nat_claim_entry(L4_NAT_FORWARD, p->family, k);
	if (!n.entry) {
		__sync_lock_test_and_set(n.slot, L4_NAT_FREE);
		return GALE_REASON_TABLE_FULL;
	}
	*word = l4_nat_establish(p, t, k, &n, hop);
	return 0;
}

/* Find or make the flow's entry. Returns 0 or a reason. */
static __always_inline int l4_nat_create(GALE_CTX *ctx, struct gale_packet *p,
					 struct gale_target *t, struct l4_nat_key *k, u64 *word)
{
	u64 *lock, *entry;
	int reason = 0;

	if (p->protocol == GALE_IP_TCP && p->tcp_flags & GALE_TCP_RST)
		return GALE_REASON_NO_FLOW;
	lock = l4_nat_lock(k->hash);
	if (!lock)
		return GALE_REASON_FLOW_BUSY;
	entry = l4_nat_find(L4_NAT_FORWARD, p->family, k, word);
	if (!entry)
		reason = l4_nat_make(ctx, p, t, k, gale_tick(), word);
	l4_nat_unlock(lock);
	return reason;
}

#endif
