/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Bucket tables: looking up and claiming entries. Who changed a word by CAS owns the entry. */
#ifndef GALELB_L4_NAT_FLOW_H
#define GALELB_L4_NAT_FLOW_H

#define L4_NAT_FORWARD		0	/* tables */
#define L4_NAT_BACKWARD		1
#define L4_NAT_SPIN		512	/* rounds; a holder needs a microsecond or two */
#define L4_NAT_READ(x)		(*(volatile u64 *)&(x))

/* What an entry is found by. */
struct l4_nat_key {
	u64 key;
	u64 hash;
#ifdef GALE_IPV6
	u64 hi;
	u64 lo;
#endif
};

static __always_inline u16 l4_nat_age(u64 word)
{
	return word;
}

static __always_inline u32 l4_nat_state(u64 word)
{
	return (word >> 16) & 0xff;
}

static __always_inline u16 l4_nat_second(u64 word)
{
	return word >> 32;
}

static __always_inline u32 l4_nat_first(u64 word)
{
	return word >> 48;
}

static __always_inline u64 l4_nat_word(u64 first, u64 second, u64 state, u16 age)
{
	return first << 48 | second << 32 | state << 16 | age;
}

/* `port` in host order; `id` is a service's or a slice's */
static __always_inline void l4_nat_key_make(struct l4_nat_key *k, u32 family, u32 *addr, u16 port,
					    u16 id)
{
	u64 tail = (u64)port << 16 | id;

#ifdef GALE_IPV6
	if (family == GALE_FAMILY_IPV6) {
		k->hi = addr[0] | (u64)addr[1] << 32;
		k->lo = addr[2] | (u64)addr[3] << 32;
		k->key = tail;
		k->hash = gale_mix(gale_mix(gale_mix(GALE_FLOW_SEED, k->hi), k->lo), tail);
	} else
#endif
	{
		k->key = (u64)addr[0] << 32 | tail;
		k->hash = gale_mix(GALE_FLOW_SEED, k->key);
	}
	k->hash = gale_mix(k->hash, 0);
}

static __always_inline struct l4_nat_bucket4 *l4_nat_bucket4_get(int table, u32 index)
{
#ifdef L4_NAT_DNAT
	if (table == L4_NAT_BACKWARD)
		return l4_nat_returns4.lookup(&index);
#endif
	return l4_nat_flows4.lookup(&index);
}

static __always_inline u32 l4_nat_index(u64 hash, int second, u32 buckets)
{
	return (second ? hash >> 32 : hash) & (buckets - 1);
}

/*
 * The same number, but the verifier forgets it and so follows one way instead of one per value:
 * to it, x ^ x is unknown when x is.
 */
static __always_inline u64 l4_nat_forget(u64 number, u64 unknown)
{
	u64 zero = unknown;

	asm volatile("%0 ^= %1" : "+&r"(zero) : "r"(unknown));
	asm volatile("%0 ^= %1" : "+&r"(number) : "r"(zero));
	return number;
}

/* Key, word, key again: equal keys around a word in use mean that the word belongs to the key. */
static __always_inline u64 *l4_nat_match4(struct l4_nat_bucket4 *b, struct l4_nat_key *k, u64 *word)
{
	u64 at = L4_NAT_ENTRIES;
	int i;

#pragma unroll
	for (i = 0; i < L4_NAT_ENTRIES; i++)
		if (L4_NAT_READ(b->entry[i].key) == k->key) {
			*word = L4_NAT_READ(b->entry[i].word);
			if (*word >= L4_NAT_USED && L4_NAT_READ(b->entry[i].key) == k->key) {
				at = i;
				break;
			}
		}
	if (at == L4_NAT_ENTRIES)
		return NULL;
	return &b->entry[l4_nat_forget(at, k->hash) & (L4_NAT_ENTRIES - 1)].word;
}

static __always_inline u64 *l4_nat_find4(int table, struct l4_nat_key *k, u64 *word)
{
	struct l4_nat_bucket4 *b;
	u64 *found;

	b = l4_nat_bucket4_get(table, l4_nat_index(k->hash, 0, L4_NAT_BUCKETS4));
	if (!b)
		return NULL;
	found = l4_nat_match4(b, k, word);
	if (found)
		return found;
	b = l4_nat_bucket4_get(table, l4_nat_index(k->hash, 1, L4_NAT_BUCKETS4));
	return b ? l4_nat_match4(b, k, word) : NULL;
}

#ifdef GALE_IPV6
static __always_inline struct l4_nat_bucket6 *l4_nat_bucket6_get(int table, u32 index)
{
#ifdef L4_NAT_DNAT
	if (table == L4_NAT_BACKWARD)
		return l4_nat_returns6.lookup(&index);
#endif
	return l4_nat_flows6.lookup(&index);
}

static __always_inline int l4_nat_equal6(struct l4_nat_entry6 *e, struct l4_nat_key *k)
{
	return L4_NAT_READ(e->lo) == k->lo && L4_NAT_READ(e->key) == k->key &&
	       L4_NAT_READ(e->hi) == k->hi;
}

static __always_inline u64 *l4_nat_match6(struct l4_nat_bucket6 *b, struct l4_nat_key *k, u64 *word)
{
	u64 at = L4_NAT_ENTRIES;
	int i;

#pragma unroll
	for (i = 0; i < L4_NAT_ENTRIES; i++)
		if (l4_nat_equal6(&b->entry[i], k)) {
			*word = L4_NAT_READ(b->entry[i].word);
			if (*word >= L4_NAT_USED && l4_nat_equal6(&b->entry[i], k)) {
				at = i;
				break;
			}
		}
	if (at == L4_NAT_ENTRIES)
		return NULL;
	return &b->entry[l4_nat_forget(at, k->hash) & (L4_NAT_ENTRIES - 1)].word;
}

static __always_inline u64 *l4_nat_find6(int table, struct l4_nat_key *k, u64 *word)
{
	struct l4_nat_bucket6 *b;
	u64 *found;

	b = l4_nat_bucket6_get(table, l4_nat_index(k->hash, 0, L4_NAT_BUCKETS6));
	if (!b)
		return NULL;
	found = l4_nat_match6(b, k, word);
	if (found)
		return found;
	b = l4_nat_bucket6_get(table, l4_nat_index(k->hash, 1, L4_NAT_BUCKETS6));
	return b ? l4_nat_match6(b, k, word) : NULL;
}
#endif

/* The entry's word and its content, or NULL. */
static __always_inline u64 *l4_nat_find(int table, u32 family, struct l4_nat_key *k, u64 *word)
{
#ifdef GALE_IPV6
	if (family == GALE_FAMILY_IPV6)
		return l4_nat_find6(table, k, word);
#endif
	return l4_nat_find4(table, k, word);
}

/* The key lies before the word; only the owner writes it. */
static __always_inline void l4_nat_publish(u64 *at, u32 family, struct l4_nat_key *k, u64 word)
{
#ifdef GALE_IPV6
	if (family == GALE_FAMILY_IPV6) {
		struct l4_nat_entry6 *e = (void *)at - offsetof(struct l4_nat_entry6, word);

		L4_NAT_READ(e->hi) = k->hi;
		L4_NAT_READ(e->lo) = k->lo;
		L4_NAT_READ(e->key) = k->key;
	} else
#endif
	{
		struct l4_nat_entry4 *e = (void *)at - offsetof(struct l4_nat_entry4, word);

		L4_NAT_READ(e->key) = k->key;
	}
	__sync_lock_test_and_set(at, word);	/* a full barrier in BPF */
}

static __always_inline int l4_nat_swap(u64 *at, u64 from, u64 to)
{
	return __sync_val_compare_and_swap(at, from, to) == from;
}

static __always_inline u64 *l4_nat_lock_of(u64 hash)
{
	u32 index = (hash >> 20) & (L4_NAT_LOCKS - 1);

	return l4_nat_locks.lookup(&index);
}

/* Around every creation and removal of a key's entry; established packets take none. NULL = busy. */
static __always_inline u64 *l4_nat_lock(u64 hash)
{
	u64 *lock = l4_nat_lock_of(hash);
	int i;

	if (!lock)
		return NULL;
	for (i = 0; i < L4_NAT_SPIN; i++)
		if (!L4_NAT_READ(*lock) && l4_nat_swap(lock, 0, 1))
			return lock;
	return NULL;
}

static __always_inline void l4_nat_unlock(u64 *lock)
{
	__sync_lock_test_and_set(lock, 0);
}

#endif
