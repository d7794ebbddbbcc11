/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a packet from the client does to its flow, beyond keeping it young. */
#ifndef GALELB_L4_NAT_PROGRESS_H
#define GALELB_L4_NAT_PROGRESS_H

/* what to do with the packet */
#define L4_NAT_GO_ON		0
#define L4_NAT_AFRESH		1	/* the flow is finished or its node gone: make a new one */
#define L4_NAT_RESET		2	/* the node is down and silent: tell the client */

/* Young enough that no timeout can have passed. */
#define L4_NAT_YOUNG		(L4_NAT_UDP < L4_NAT_TCP_FIN ? L4_NAT_UDP : L4_NAT_TCP_FIN)

/* Whether the packet needs more than a new age. */
static __always_inline int l4_nat_special(struct gale_packet *p, struct gale_node *node, u64 word,
					  u16 now)
{
	u32 state = l4_nat_state(word);

	if (p->tcp_flags & (GALE_TCP_SYN | GALE_TCP_FIN | GALE_TCP_RST))
		return 1;
	if (node->flags & GALE_NODE_DOWN || state & (L4_NAT_DOWN_SEEN | L4_NAT_RST))
		return 1;
	if (likely(state & L4_NAT_SEEN))
		return l4_nat_older(now, word, L4_NAT_YOUNG);
	return state & L4_NAT_TCP || l4_nat_age(word) != now;
}

/*
 * A packet for a node that is down. The age stays that of the first packet without an answer;
 * an answer since then starts the wait anew. 1 = no answer for too long.
 */
static __always_inline int l4_nat_down(u64 word, u64 back, u16 now, u32 *state, u16 *age)
{
	if (l4_nat_state(word) & L4_NAT_DOWN_SEEN && (s16)(l4_nat_age(back) - l4_nat_age(word)) < 0) {
		*age = l4_nat_age(word);
		return l4_nat_older(now, word, L4_NAT_DOWN_GRACE);
	}
	*state |= L4_NAT_DOWN_SEEN;
	*age = now;
	return 0;
}

static __always_inline int l4_nat_finished(struct gale_packet *p, u64 word, u64 back, u16 now)
{
	/* a node that is down keeps the age of its flows from moving: l4_nat_down judges them */
	if (!(l4_nat_state(word) & L4_NAT_DOWN_SEEN) && l4_nat_expired(word, back, now))
		return 1;
	return p->protocol == GALE_IP_TCP && l4_nat_closed(word, back) &&
	       (p->tcp_flags & (GALE_TCP_SYN | GALE_TCP_ACK)) == GALE_TCP_SYN;
}

/* Advance the flow by this packet. */
static __always_inline int l4_nat_progress(struct gale_packet *p, struct gale_node *node,
					   struct l4_nat_key *k, u64 *entry, u64 word)
{
	u32 state = l4_nat_state(word);
	u16 now = gale_tick(), age = now;
	u64 back = 0;

	if (!l4_nat_back(p->family, k, word, &back) || l4_nat_finished(p, word, back, now))
		return L4_NAT_AFRESH;
	if (p->protocol == GALE_IP_TCP)
		state = l4_nat_tcp_state(state, p->tcp_flags);
	if (l4_nat_state(back) & L4_NAT_SEEN &&
	    (p->protocol == GALE_IP_UDP || (p->tcp_flags & (GALE_TCP_SYN | GALE_TCP_ACK)) == GALE_TCP_ACK))
		state |= L4_NAT_SEEN;
	if (!(node->flags & GALE_NODE_DOWN))
		state &= ~L4_NAT_DOWN_SEEN;
	else if (l4_nat_down(word, back, now, &state, &age))
		return p->protocol == GALE_IP_TCP ? L4_NAT_RESET : L4_NAT_AFRESH;
	l4_nat_swap(entry, word, l4_nat_word(l4_nat_first(word), l4_nat_second(word), state, age));
	return L4_NAT_GO_ON;
}

#endif
