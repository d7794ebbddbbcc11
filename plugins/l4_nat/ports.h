/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The way back of a new flow: a source port (full_nat) or an entry of the return table (dnat). */
#ifndef GALELB_L4_NAT_PORTS_H
#define GALELB_L4_NAT_PORTS_H

#define L4_NAT_SEARCH		64	/* ports looked at per packet and source address */
#define L4_NAT_TRIES		4	/* source addresses tried per packet */

/* A flow in the making. */
struct l4_nat_new {
	u64 *back;		/* claimed slot or return entry */
	u32 slice;		/* id */
	u16 port;		/* source port, host order */
	u16 now;
	u32 stale;		/* 1 + slot whose flow may have expired */
	u32 stale_port;
};

static __always_inline struct l4_nat_settings *l4_nat_setting(void)
{
	u32 zero = 0;

	return l4_nat_settings.lookup(&zero);
}

static __always_inline struct l4_nat_lease *l4_nat_lease_get(void)
{
	u32 zero = 0;

	return l4_nat_lease.lookup(&zero);
}

#ifdef L4_NAT_DNAT
/*
 * With the lock of the forward key held, which holds the service's id: claim the return entry of
 * the slice n->slice. The client keeps its port.
 */
static __always_inline int l4_nat_claim_back(u32 family, struct l4_nat_key *k, struct l4_nat_new *n)
{
	struct l4_nat_key back = *k;
	u64 *lock, word;

	n->port = k->key >> 16;
	back.key = (back.key & ~0xffffULL) | n->slice;
	l4_nat_key_rehash(&back, family);
	lock = l4_nat_lock_of(back.hash);
	if (!lock)
		return GALE_REASON_INTERNAL;
	/* whoever holds it holds it for a moment; being the forward key's own lock it is ours */
	if (lock != l4_nat_lock_of(k->hash) && !l4_nat_lock(back.hash))
		return GALE_REASON_FLOW_BUSY;
	if (!l4_nat_find(L4_NAT_BACKWARD, family, &back, &word))
		n->back = l4_nat_claim_free(L4_NAT_BACKWARD, family, &back);
	if (n->back)
		l4_nat_publish(n->back, family, &back, l4_nat_word(k->key & 0xffff, 0, 0, n->now));
	if (lock != l4_nat_lock_of(k->hash))
		l4_nat_unlock(lock);
	return n->back ? 0 : GALE_REASON_TABLE_FULL;
}

static __always_inline int l4_nat_claim(u32 family, struct l4_nat_slice_key *key,
					struct l4_nat_key *k, struct l4_nat_new *n)
{
	struct l4_nat_slice *slice = l4_nat_slices.lookup(key);

	if (!slice)
		return GALE_REASON_TABLE_FULL;
	n->slice = slice->id;
	return l4_nat_claim_back(family, k, n);
}

/* Make the way back visible: its key is there already. */
static __always_inline void l4_nat_publish_back(u32 family, struct l4_nat_new *n,
						struct l4_nat_key *k, u64 word)
{
	__sync_lock_test_and_set(n->back, word);
}
#else
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

/* In use, but its flow looks expired: nobody has swept. */
static __always_inline int l4_nat_port_stale(u64 word, u16 now)
{
	return word >= L4_NAT_USED &&
	       l4_nat_older(now, word, l4_nat_timeout(l4_nat_state(word), l4_nat_state(word)));
}

/* Claim a port of the slice: the one that was closed longest ago comes first. 0 or a reason. */
static __always_inline int l4_nat_claim_port(u32 family, struct l4_nat_slice *slice,
					     struct l4_nat_new *n)
{
	u64 *cursor = l4_nat_cursor(slice->id), *slot, word;
	u32 start, offset = 0, count = slice->count, i;

	if (!cursor || !count)
		return GALE_REASON_TABLE_FULL;
	start = __sync_fetch_and_add(cursor, 1) % count;
	for (i = 0; i < L4_NAT_SEARCH; i++) {
		offset = start + i < count ? start + i : start + i - count;
		if (offset >= count)
			break;	/* all of a small slice was looked at */
		slot = l4_nat_slot(family, slice->base + offset);
		if (!slot)
			break;
		word = L4_NAT_READ(*slot);
		if (l4_nat_port_stale(word, n->now)) {
			n->stale = slice->base + offset + 1;
			n->stale_port = slice->first_port + offset;
			n->slice = slice->id;
		}
		if (l4_nat_port_free(word, n->now) &&
		    !L4_NAT_RESERVED_PORT(slice->first_port + offset) &&
		    l4_nat_swap(slot, word, L4_NAT_BUSY)) {
			n->back = slot;
			break;
		}
	}
	n->port = slice->first_port + offset;
	if (i)
		__sync_fetch_and_add(cursor, i);
	return n->back ? 0 : GALE_REASON_TABLE_FULL;
}

/* The source address that number `pick` names; NULL = the pool is empty. */
static __always_inline struct l4_nat_source *l4_nat_source(u32 family, u32 pick)
{
	struct l4_nat_settings *settings = l4_nat_setting();
	u32 index, count;

	if (!settings)
		return NULL;
	count = family == GALE_FAMILY_IPV6 ? settings->count6 : settings->count4;
	if (!count)
		return NULL;
	pick = pick % count & (L4_NAT_POOL - 1);
	index = family == GALE_FAMILY_IPV6 ? settings->sources6[pick] : settings->sources4[pick];
	return l4_nat_sources.lookup(&index);
}

/* The forward entry of the flow that holds a slot, its key and its word; NULL = it has none (yet). */
static __always_inline u64 *l4_nat_holder(u32 family, u64 *slot, struct l4_nat_key *held,
					  u64 *forward)
{
#ifdef GALE_IPV6
	if (family == GALE_FAMILY_IPV6) {
		held->lo = L4_NAT_READ(*(slot - 2));
		held->hi = L4_NAT_READ(*(slot - 3));
	}
#endif
	held->key = L4_NAT_READ(*(slot - 1));
	l4_nat_key_rehash(held, family);
	return l4_nat_find(L4_NAT_FORWARD, family, held, forward);
}

/* The flow that holds a port which nobody else could use: take it over if it has expired. */
static __always_inline int l4_nat_reclaim(u32 family, struct l4_nat_key *k, struct l4_nat_new *n)
{
	u64 *slot = n->stale ? l4_nat_slot(family, n->stale - 1) : NULL;
	u64 *entry, word = 0, back, forward;
	struct l4_nat_key held;

	if (!slot)
		return GALE_REASON_TABLE_FULL;
	back = L4_NAT_READ(*slot);
	entry = l4_nat_holder(family, slot, &held, &forward);
	if (!entry || back < L4_NAT_USED || !l4_nat_expired(forward, back, n->now) ||
	    l4_nat_first(forward) != n->slice || l4_nat_second(forward) != n->stale_port)
		return GALE_REASON_TABLE_FULL;
	if (!l4_nat_retire_other(family, k, &held, entry, forward))
		return GALE_REASON_FLOW_BUSY;
	__sync_lock_test_and_set(entry, L4_NAT_FREE);
	word = L4_NAT_READ(*slot);
	if (!l4_nat_port_free(word, n->now) || !l4_nat_swap(slot, word, L4_NAT_BUSY))
		return GALE_REASON_TABLE_FULL;
	n->back = slot;
	n->port = n->stale_port;
	return 0;
}

/* Claim a port of any source address; spread by hash, the next one when one is full. */
static __always_inline int l4_nat_claim(u32 family, struct l4_nat_slice_key *key,
					struct l4_nat_key *k, struct l4_nat_new *n)
{
	u32 i, spread = (k->hash >> 8) & 0xffff;

	/* zeros that are unknown: else the verifier walks the search again for what is found in it */
	n->stale = n->stale_port = n->slice = l4_nat_forget(0, k->hash);
	n->port = n->slice;

#pragma nounroll
	for (i = 0; i < L4_NAT_TRIES; i++) {
		struct l4_nat_source *source = l4_nat_source(family, spread + i);
		struct l4_nat_slice *slice;

		if (!source)
			return GALE_REASON_TABLE_FULL;
		__builtin_memcpy(key->source, source->addr, 16);
		slice = l4_nat_slices.lookup(key);
		if (slice && !l4_nat_claim_port(family, slice, n)) {
			n->slice = slice->id;
			return 0;
		}
	}
	return l4_nat_reclaim(family, k, n);
}

static __always_inline void l4_nat_publish_back(u32 family, struct l4_nat_new *n,
						struct l4_nat_key *k, u64 word)
{
	l4_nat_publish(n->back, family, k, word);
}
#endif

#endif
