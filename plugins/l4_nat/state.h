/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a flow's two words say: timeouts, expiry, closing; and finding one word from the other. */
#ifndef GALELB_L4_NAT_STATE_H
#define GALELB_L4_NAT_STATE_H

static __always_inline u16 l4_nat_timeout(u32 forward, u32 backward)
{
	u32 both = forward | backward;

	if (!(both & L4_NAT_TCP))
		return both & L4_NAT_SEEN ? L4_NAT_UDP : L4_NAT_UDP_UNREPLIED;
	if (both & (L4_NAT_FIN | L4_NAT_RST))
		return L4_NAT_TCP_FIN;
	return forward & L4_NAT_SEEN ? L4_NAT_TCP_ESTABLISHED : L4_NAT_TCP_SYN;
}

static __always_inline int l4_nat_older(u16 now, u64 word, u16 ticks)
{
	return (u16)(now - l4_nat_age(word)) > ticks;
}

/* Both directions have been silent for too long. */
static __always_inline int l4_nat_expired(u64 forward, u64 backward, u16 now)
{
	u16 ticks = l4_nat_timeout(l4_nat_state(forward), l4_nat_state(backward));

	return l4_nat_older(now, forward, ticks) && l4_nat_older(now, backward, ticks);
}

/* Nothing but retransmissions will come. */
static __always_inline int l4_nat_closed(u64 forward, u64 backward)
{
	u32 f = l4_nat_state(forward), b = l4_nat_state(backward);

	return (f | b) & L4_NAT_RST || f & b & L4_NAT_FIN;
}

/* What a TCP packet adds to its side's state. */
static __always_inline u32 l4_nat_tcp_state(u32 state, u8 flags)
{
	state &= ~L4_NAT_RST;
	if (flags & GALE_TCP_RST)
		state |= L4_NAT_RST;
	if (flags & GALE_TCP_FIN)
		state |= L4_NAT_FIN;
	return state;
}

static __always_inline struct l4_nat_slice_info *l4_nat_slice(u32 id)
{
	return l4_nat_slice_ids.lookup(&id);
}

#ifndef L4_NAT_DNAT
static __always_inline u64 *l4_nat_slot4(u32 index)
{
	struct l4_nat_entry4 *slot = l4_nat_ports4.lookup(&index);

	if (!slot)
		return NULL;
	GALE_OPAQUE(slot);
	return &slot->word;
}

#ifdef GALE_IPV6
static __always_inline u64 *l4_nat_slot6(u32 index)
{
	struct l4_nat_entry6 *slot = l4_nat_ports6.lookup(&index);

	if (!slot)
		return NULL;
	GALE_OPAQUE(slot);
	return &slot->word;
}
#endif

static __always_inline u64 *l4_nat_slot(u32 family, u32 index)
{
#ifdef GALE_IPV6
	if (family == GALE_FAMILY_IPV6)
		return l4_nat_slot6(index);
#endif
	return l4_nat_slot4(index);
}
#endif

/* A key of the same client with another id: of the slice, for return tables. */
static __always_inline void l4_nat_key_rehash(struct l4_nat_key *k, u32 family)
{
#ifdef GALE_IPV6
	if (family == GALE_FAMILY_IPV6)
		k->hash = gale_mix(gale_mix(gale_mix(GALE_FLOW_SEED, k->hi), k->lo), k->key);
	else
#endif
		k->hash = gale_mix(GALE_FLOW_SEED, k->key);
	k->hash = gale_mix(k->hash, 0);
}

#ifdef L4_NAT_DNAT
/* The word of the node's direction for a forward word; NULL when there is none. */
static __always_inline u64 *l4_nat_back(u32 family, struct l4_nat_key *k, u64 forward, u64 *word)
{
	struct l4_nat_key back = *k;

	back.key = (back.key & ~0xffffULL) | l4_nat_first(forward);
	l4_nat_key_rehash(&back, family);
	return l4_nat_find(L4_NAT_BACKWARD, family, &back, word);
}

/* Give up the way back of a flow whose forward entry is ours. */
static __always_inline void l4_nat_release(u64 *at, u64 forward, u64 backward)
{
	__sync_lock_test_and_set(at, L4_NAT_FREE);
}
#else
/* Whether a slot's or entry's key is this one; `at` is its word. */
static __always_inline int l4_nat_holds(u32 family, u64 *at, struct l4_nat_key *k)
{
#ifdef GALE_IPV6
	if (family == GALE_FAMILY_IPV6)
		return l4_nat_equal6((void *)at - offsetof(struct l4_nat_entry6, word), k);
#endif
	return L4_NAT_READ(*(at - 1)) == k->key;
}

/* The word of the node's direction for a forward word; NULL when there is none. */
static __always_inline u64 *l4_nat_back(u32 family, struct l4_nat_key *k, u64 forward, u64 *word)
{
	struct l4_nat_slice_info *slice = l4_nat_slice(l4_nat_first(forward));
	u16 offset;
	u64 *at;

	if (!slice)
		return NULL;
	offset = l4_nat_second(forward) - slice->first_port;
	if (offset >= slice->count)
		return NULL;
	at = l4_nat_slot(family, slice->base + offset);
	if (!at)
		return NULL;
	*word = L4_NAT_READ(*at);
	return *word >= L4_NAT_USED && l4_nat_holds(family, at, k) ? at : NULL;
}

/* Quarantine the port of a flow whose forward entry is ours, from its last packet on. */
static __always_inline void l4_nat_release(u64 *at, u64 forward, u64 backward)
{
	u16 age = l4_nat_age(forward);

	if ((s16)(l4_nat_age(backward) - age) > 0)
		age = l4_nat_age(backward);
	__sync_lock_test_and_set(at, l4_nat_word(0, 0, L4_NAT_CLOSED, age));
}
#endif

/*
 * Take a flow's entry out of the table: with its key's lock held, or when nobody looks for it.
 * 1 = the entry is ours (BUSY) and its way back is given up; 0 = it changed meanwhile.
 */
static __always_inline int l4_nat_retire(u32 family, struct l4_nat_key *k, u64 *entry, u64 word)
{
	u64 *at, back;

	if (!l4_nat_swap(entry, word, L4_NAT_BUSY))
		return 0;
	at = l4_nat_back(family, k, word, &back);
	if (at)
		l4_nat_release(at, word, back);
	return 1;
}

#endif
