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

/* The word of the node's direction for a forward word; NULL when there is none in use. */
static __always_inline u64 *l4_nat_back(u32 family, u64 forward, struct l4_nat_slice_info *slice,
					u64 *word)
{
	u16 offset = l4_nat_second(forward) - slice->first_port;
	u64 *at;

	if (offset >= slice->count)
		return NULL;
	at = l4_nat_slot(family, slice->base + offset);
	*word = at ? L4_NAT_READ(*at) : 0;
	return *word >= L4_NAT_USED ? at : NULL;
}

#endif
