/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a forwarder is handed, and what it calls. Included before the forwarders' own C. */
#ifndef GALELB_PLUGIN_H
#define GALELB_PLUGIN_H

/*
 * A forwarder called NAME defines
 *
 *	static __always_inline int NAME_forward(GALE_CTX *ctx, struct gale_packet *p,
 *						struct gale_target *t, struct gale_way *way);
 *
 * for packets that match one of its services. It fills in way->rw (gale_keep() is a start) and
 * way->hop (gale_node_hop(); gale_direct() does both) and returns GALE_SEND, or it returns
 * gale_refuse(). Sending and counting are done for it. way->service is set, way->reason is how a packet that is sent will be
 * counted. For a stateless forwarder t->node is the node that the lookup table names, and way->node
 * is set; a stateful one (Forwarder.stateful) finds nothing in t. When it has no flow for the packet it
 * sets t->service to gale_service_get(way->service) and calls gale_target_select(), and it sets way->node.
 *
 * With Forwarder.selects_node also
 *
 *	static __always_inline int NAME_select(struct gale_packet *p, struct gale_target *t,
 *					       u32 *addr, u16 port);
 *
 * which a stateless forwarder has to choose t->node otherwise than by the hash of the flow. It is
 * called in place of gale_target_select(), for packets with their sender and for ICMP errors with
 * the client that the packet which they quote was for, and returns what that returns.
 *
 * With Forwarder.claims_returns also
 *
 *	static __always_inline int NAME_return(GALE_CTX *ctx, struct gale_packet *p,
 *					       struct gale_way *way);
 *
 * for TCP and UDP packets that match no service: GALE_NOT_MINE, or as above with way->service.
 * gale_front_get() says where such an answer comes from.
 *
 * With Forwarder.translates_icmp also
 *
 *	static __always_inline int NAME_icmp(GALE_CTX *ctx, struct gale_packet *p,
 *					     struct gale_quote *q, struct gale_rewrite *inner,
 *					     struct gale_way *way);
 *
 * for ICMP errors about one of its services (way->service > 0) or about something else (0); with
 * q->translate set, what the error quotes is rewritten by *inner. A
 * forwarder without it gets ICMP errors about its services by NAME_forward, the node chosen by
 * the packet that the error quotes.
 *
 * With Forwarder.wraps also
 *
 *	static __always_inline int NAME_wrap(GALE_CTX *ctx, struct gale_packet *p,
 *					     struct gale_way *way);
 *
 * which puts way->outer bytes of headers before a packet on its way to way->node, after all else was
 * written: gale_make_room() says where. It returns 0, or -1 on failure. It is
 * called when way->outer is not 0; p->len is still that of the packet as it arrived. MTU and ICMP
 * are taken care of, and later fragments are wrapped with the way->seed of their first.
 *
 * `galelb trace` tells the steps of the pipeline by itself. gale_trace_step(GALE_STEP_FLOW, port) adds
 * the flow that a stateful forwarder has found, GALE_STEP_FLOW_MADE one that it has made; in
 * programs that forward they cost nothing.
 *
 * Slow work can go to a program of its own, which keeps the fast one small: define
 * `int GALE_FN(NAME_work)(GALE_CTX *ctx)` at the start of a line, and reach it by returning
 * gale_later(way, GALE_SLOW_NAME_WORK). It begins with gale_take_over() and ends with
 * gale_finish(). Programs called NAME_forward_slow and NAME_return_slow, if there are any, must
 * be able to do all that NAME_forward and NAME_return do.
 */

/* Where a matched packet is bound. */
struct gale_target {
	u32 node_index;
	u32 hash;		/* of the flow */
	struct gale_service *service;
	struct gale_node *node;
};

/* Choose the node of the flow from `addr` and `port` (host order); returns 0 or a reason to drop. */
static __always_inline int gale_target_select(struct gale_packet *p, struct gale_target *t,
					      u32 *addr, u16 port)
{
	t->hash = gale_hash(p, addr, port);
	t->node_index = gale_select(t->service, t->hash);
	if (!t->node_index)
		return GALE_REASON_NO_NODE;
	t->node = gale_node_get(t->node_index);
	return t->node ? 0 : GALE_REASON_NODE_GONE;
}

/* Leave addresses and ports as they are. With way->rw.ttl set, the packet has one hop less. */
static __always_inline void gale_keep(struct gale_packet *p, struct gale_way *way)
{
	way->kept = 1;
	__builtin_memcpy(way->rw.saddr, p->saddr, 4 * GALE_WORDS);
	__builtin_memcpy(way->rw.daddr, p->daddr, 4 * GALE_WORDS);
	way->rw.sport = p->sport;
	way->rw.dport = p->dport;
}

/* The node's next hop; NULL when unresolved, and the control plane was told. */
static __always_inline struct gale_next_hop *gale_node_hop(struct gale_node *node)
{
	struct gale_next_hop *hop = gale_next_hop_get(node->next_hop);

	if (unlikely(!hop))
		gale_tell_unresolved(node);
	return hop;
}

/*
 * Whether the frame is on its way to the node already: another balancer sent it, and it came here
 * because a switch did not know where the node is (any more). Two balancers that send such frames
 * on send them to each other, for ever and as fast as they can.
 */
static __always_inline int gale_is_astray(GALE_CTX *ctx, struct gale_next_hop *hop)
{
	u32 *to = gale_data(ctx), *next = (u32 *)hop->dst;

	if ((void *)to + sizeof(struct gale_eth) > gale_data_end(ctx))
		return 0;
	/* the last two bytes first: those of one maker's cards begin alike */
	return (u16)to[1] == (u16)next[1] && to[0] == next[0];
}

/*
 * Whether the client is a node. One that holds the VIP never asks the network for it; one that does
 * not (yet) could be sent its own packets, and only sometimes: so it is refused always.
 */
static __always_inline int gale_is_hairpin(struct gale_packet *p)
{
	struct gale_address client = {};

	if (p->flags & GALE_ICMP_ERROR || likely(!gale_node_may_be(p, p->saddr)))
		return 0;
	__builtin_memcpy(client.addr, p->saddr, 4 * GALE_WORDS);
	return gale_node_addresses.lookup(&client) != NULL;
}

/*
 * For forwarders whose nodes answer clients directly: the packet stays as it is and goes to the
 * node. Returns GALE_SEND, or what NAME_forward is to return instead. Nodes are on the side that
 * packets leave to, so what crosses the balancer needs no second look.
 */
static __always_inline int gale_direct(GALE_CTX *ctx, struct gale_packet *p,
				       struct gale_target *t, struct gale_way *way)
{
	struct gale_next_hop *hop = gale_node_hop(t->node);

	if (unlikely(!hop))
		return gale_refuse(way, GALE_REASON_NO_NEIGHBOUR);
	if (hop->ifindex == gale_ifindex(ctx)) {
		if (unlikely(gale_is_astray(ctx, hop))) {
			way->reason = GALE_REASON_PASS_FOREIGN;
			return GALE_NOT_MINE;
		}
		if (unlikely(gale_is_hairpin(p)))
			return gale_refuse(way, GALE_REASON_HAIRPIN);
	}
	gale_keep(p, way);
	way->hop = hop;
	return GALE_SEND;
}

#endif
