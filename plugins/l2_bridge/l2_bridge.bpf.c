/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* l2_bridge: the frame goes to the node's MAC address; what is in it stays as it is. */

struct l2_bridge_address {
	u32 addr[4];
};

/* nodes by address, to tell when one of them is the client; written by the control plane */
GALE_MAP("hash", struct l2_bridge_address, u32, l2_bridge_nodes, GALE_MAX_NODES, 0)

/*
 * A node that holds the VIP never asks the network for it. One that does not hold it (yet) could
 * be sent its own packets, and only sometimes: so it is refused always. Nodes are on the side
 * that packets leave to, therefore traffic that crosses the balancer is not looked up.
 */
static __always_inline int l2_bridge_hairpin(GALE_CTX *ctx, struct gale_packet *p,
					     struct gale_next_hop *hop)
{
	struct l2_bridge_address client = {};

	if (hop->ifindex != gale_ifindex(ctx) || p->flags & GALE_ICMP_ERROR)
		return 0;
	__builtin_memcpy(client.addr, p->saddr, 4 * GALE_WORDS);
	return l2_bridge_nodes.lookup(&client) != NULL;
}

static __always_inline int l2_bridge_forward(GALE_CTX *ctx, struct gale_packet *p,
					     struct gale_target *t, struct gale_way *way)
{
	struct gale_next_hop *hop = gale_node_hop(p, t->node);

	if (unlikely(!hop))
		return gale_refuse(way, GALE_REASON_NO_NEIGHBOUR);
	if (unlikely(l2_bridge_hairpin(ctx, p, hop)))
		return gale_refuse(way, GALE_REASON_HAIRPIN);
	if (!(p->flags & GALE_ICMP_ERROR))
		way->reason = GALE_REASON_FORWARDED;
	gale_keep(p, way);
	way->bridged = 1;
	way->hop = hop;
	way->node = t->node_index;
	return GALE_SEND;
}
