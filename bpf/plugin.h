/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a forwarder is handed, and what it calls. Included before the forwarders' own C. */
#ifndef GALELB_PLUGIN_H
#define GALELB_PLUGIN_H

/*
 * A forwarder called NAME defines
 *
 *	static __always_inline int NAME_forward(GALE_CTX *ctx, struct gale_packet *p,
 *						struct gale_target *t);
 *
 * for packets that match one of its services. A stateless forwarder finds t->node set to the
 * node that the lookup table names; a stateful one (Forwarder.stateful) finds it NULL and calls
 * gale_target_select() when it has no flow for the packet. It returns what gale_send() or
 * gale_drop() return, never a bare verdict: those count.
 *
 * With Forwarder.claims_returns also
 *
 *	static __always_inline int NAME_return(GALE_CTX *ctx, struct gale_packet *p);
 *
 * for TCP and UDP packets that match no service: GALE_NOT_MINE, or a verdict as above.
 *
 * With Forwarder.translates_icmp also
 *
 *	static __always_inline int NAME_icmp(GALE_CTX *ctx, struct gale_packet *p,
 *					     struct gale_quote *q, u32 service_id);
 *
 * for ICMP errors about one of its services (service_id > 0) or about something else (0). A
 * forwarder without it gets ICMP errors about its services by NAME_forward, the node chosen by
 * the packet that the error quotes.
 *
 * Slow work can go to a program of its own, which keeps the fast one small: define
 * `int GALE_FN(NAME_work)(GALE_CTX *ctx)` at the start of a line, and reach it by
 * gale_hand_over(ctx, p, GALE_SLOW_NAME_WORK, service_id). It finds the packet and the service's id
 * in gale_scratch_get().
 */

/* Where a matched packet is bound. */
struct gale_target {
	u32 service_id;
	u32 node_index;
	struct gale_service *service;
	struct gale_node *node;
};

/* Choose the node of the flow from `addr` and `port` (host order); returns 0 or a reason to drop. */
static __always_inline int gale_target_select(struct gale_packet *p, struct gale_target *t,
					      u32 *addr, u16 port)
{
	t->node_index = gale_select(t->service, gale_hash(p, addr, port));
	if (!t->node_index)
		return GALE_REASON_NO_NODE;
	t->node = gale_node_get(t->node_index);
	return t->node ? 0 : GALE_REASON_NODE_GONE;
}

/* The node's next hop; NULL when unresolved, and the control plane was told. */
static __always_inline struct gale_next_hop *gale_node_hop(struct gale_packet *p,
							   struct gale_node *node)
{
	struct gale_next_hop *hop = gale_next_hop_get(node->next_hop);
	struct gale_scratch *scratch;

	if (likely(hop))
		return hop;
	scratch = gale_scratch_get();
	if (scratch)
		gale_tell(scratch, GALE_EVENT_NO_NEIGHBOUR, p, node->addr, NULL);
	return NULL;
}

#endif
