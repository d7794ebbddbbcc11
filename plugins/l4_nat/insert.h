/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Claiming entries of a bucket table, by eviction when both buckets are full. */
#ifndef GALELB_L4_NAT_INSERT_H
#define GALELB_L4_NAT_INSERT_H

/* How readily an entry is evicted; 0 = never. */
#define L4_NAT_KEEP		0
#define L4_NAT_HALF_OPEN	1
#define L4_NAT_UNANSWERED	2	/* half-open for longer than the SYN timeout */
#define L4_NAT_DONE		3
#define L4_NAT_EXPIRED		4

static __always_inline u32 l4_nat_rank(u32 family, struct l4_nat_key *k, u64 word, u16 now)
{
	u64 back = 0;

	if (!l4_nat_back(family, k, word, &back) || l4_nat_expired(word, back, now))
		return L4_NAT_EXPIRED;
	if (l4_nat_state(word) & L4_NAT_TCP && l4_nat_closed(word, back))
		return L4_NAT_DONE;
	if (l4_nat_state(word) & L4_NAT_SEEN ||
	    (!(l4_nat_state(word) & L4_NAT_TCP) && l4_nat_state(back) & L4_NAT_SEEN))
		return L4_NAT_KEEP;
	return l4_nat_older(now, word, L4_NAT_TCP_SYN) ? L4_NAT_UNANSWERED : L4_NAT_HALF_OPEN;
}

/* Entry `i` of 8: those of the first bucket, then those of the second. */
static __always_inline u64 *l4_nat_candidate(u32 family, struct l4_nat_key *k, u32 i,
					     struct l4_nat_key *held)
{
#ifdef GALE_IPV6
	if (family == GALE_FAMILY_IPV6) {
		u32 index = l4_nat_index(k->hash, i / L4_NAT_ENTRIES, L4_NAT_BUCKETS6);
		struct l4_nat_bucket6 *b = l4_nat_bucket6_get(L4_NAT_FORWARD, index);
		struct l4_nat_entry6 *e;

		if (!b)
			return NULL;
		GALE_OPAQUE(b);
		e = &b->entry[i & (L4_NAT_ENTRIES - 1)];
		held->hi = L4_NAT_READ(e->hi);
		held->lo = L4_NAT_READ(e->lo);
		held->key = L4_NAT_READ(e->key);
		return &e->word;
	}
#endif
	u32 index = l4_nat_index(k->hash, i / L4_NAT_ENTRIES, L4_NAT_BUCKETS4);
	struct l4_nat_bucket4 *b = l4_nat_bucket4_get(L4_NAT_FORWARD, index);
	struct l4_nat_entry4 *e;

	if (!b)
		return NULL;
	GALE_OPAQUE(b);
	e = &b->entry[i & (L4_NAT_ENTRIES - 1)];
	held->key = L4_NAT_READ(e->key);
	return &e->word;
}

/* Retire the flow of another key: its lock is only tried, since we hold one. */
static __always_inline int l4_nat_retire_other(u32 family, struct l4_nat_key *k,
					       struct l4_nat_key *held, u64 *entry, u64 word)
{
	u64 *lock = l4_nat_lock_of(held->hash), *ours = l4_nat_lock_of(k->hash);
	int done;

	if (!lock)
		return 0;
	if (lock == ours)
		return l4_nat_retire(family, held, entry, word);
	if (!l4_nat_swap(lock, 0, 1))
		return 0;
	done = l4_nat_retire(family, held, entry, word);
	l4_nat_unlock(lock);
	return done;
}

/* Evict the most dispensable flow of both buckets; its entry is ours then. NULL = none is. */
static __always_inline u64 *l4_nat_evict(u32 family, struct l4_nat_key *k, u16 now)
{
	u64 zero = l4_nat_forget(0, k->hash), rank, word, *entry;
	u64 best = zero & 7, at = zero, seen = zero;
	struct l4_nat_key held;
	u32 i;

	for (i = 0; i < 2 * L4_NAT_ENTRIES; i++) {
		entry = l4_nat_candidate(family, k, i, &held);
		if (!entry)
			return NULL;
		word = L4_NAT_READ(*entry);
		if (word < L4_NAT_USED)
			continue;
		l4_nat_key_rehash(&held, family);
		rank = l4_nat_forget(l4_nat_rank(family, &held, word, now), word) & 7;
		if (rank > best) {
			best = rank;
			at = l4_nat_forget(i, word);
			seen = word;
		}
	}
	if (!best)
		return NULL;
	entry = l4_nat_candidate(family, k, at & (2 * L4_NAT_ENTRIES - 1), &held);
	if (!entry)
		return NULL;
	l4_nat_key_rehash(&held, family);
	return l4_nat_retire_other(family, k, &held, entry, seen) ? entry : NULL;
}

static __always_inline u64 *l4_nat_take4(struct l4_nat_bucket4 *b, u64 hash)
{
	int i;

	for (i = 0; i < L4_NAT_ENTRIES; i++)
		if (!L4_NAT_READ(b->entry[i].word) && l4_nat_swap(&b->entry[i].word, 0, L4_NAT_BUSY))
			return &b->entry[l4_nat_forget(i, hash) & (L4_NAT_ENTRIES - 1)].word;
	return NULL;
}

static __always_inline u32 l4_nat_room4(struct l4_nat_bucket4 *b)
{
	return !b->entry[0].word + !b->entry[1].word + !b->entry[2].word + !b->entry[3].word;
}

/* Claim a free entry: in the first bucket, unless it is nearly full and the second is emptier. */
static __always_inline u64 *l4_nat_claim4(int table, struct l4_nat_key *k)
{
	struct l4_nat_bucket4 *a, *b;
	u64 *at;

	a = l4_nat_bucket4_get(table, l4_nat_index(k->hash, 0, L4_NAT_BUCKETS4));
	b = l4_nat_bucket4_get(table, l4_nat_index(k->hash, 1, L4_NAT_BUCKETS4));
	if (!a || !b)
		return NULL;
	if (l4_nat_room4(a) <= 1 && l4_nat_room4(b) > l4_nat_room4(a)) {
		at = l4_nat_take4(b, k->hash);
		if (at)
			return at;
	}
	at = l4_nat_take4(a, k->hash);
	return at ? at : l4_nat_take4(b, k->hash);
}

#ifdef GALE_IPV6
static __always_inline u64 *l4_nat_take6(struct l4_nat_bucket6 *b, u64 hash)
{
	int i;

	for (i = 0; i < L4_NAT_ENTRIES; i++)
		if (!L4_NAT_READ(b->entry[i].word) && l4_nat_swap(&b->entry[i].word, 0, L4_NAT_BUSY))
			return &b->entry[l4_nat_forget(i, hash) & (L4_NAT_ENTRIES - 1)].word;
	return NULL;
}

static __always_inline u32 l4_nat_room6(struct l4_nat_bucket6 *b)
{
	return !b->entry[0].word + !b->entry[1].word + !b->entry[2].word + !b->entry[3].word;
}

static __always_inline u64 *l4_nat_claim6(int table, struct l4_nat_key *k)
{
	struct l4_nat_bucket6 *a, *b;
	u64 *at;

	a = l4_nat_bucket6_get(table, l4_nat_index(k->hash, 0, L4_NAT_BUCKETS6));
	b = l4_nat_bucket6_get(table, l4_nat_index(k->hash, 1, L4_NAT_BUCKETS6));
	if (!a || !b)
		return NULL;
	if (l4_nat_room6(a) <= 1 && l4_nat_room6(b) > l4_nat_room6(a)) {
		at = l4_nat_take6(b, k->hash);
		if (at)
			return at;
	}
	at = l4_nat_take6(a, k->hash);
	return at ? at : l4_nat_take6(b, k->hash);
}
#endif

/* Claim a free entry for a key whose lock is held; BUSY and ours then. */
static __always_inline u64 *l4_nat_claim_free(int table, u32 family, struct l4_nat_key *k)
{
#ifdef GALE_IPV6
	if (family == GALE_FAMILY_IPV6)
		return l4_nat_claim6(table, k);
#endif
	return l4_nat_claim4(table, k);
}

#endif
