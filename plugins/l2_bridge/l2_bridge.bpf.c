/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* l2_bridge: the frame goes to the node's MAC address; what is in it stays as it is. */

static __always_inline int l2_bridge_forward(GALE_CTX *ctx, struct gale_packet *p,
					     struct gale_target *t, struct gale_way *way)
{
	struct gale_next_hop *hop = gale_node_hop(t->node);

	if (unlikely(!hop))
		return gale_refuse(way, GALE_REASON_NO_NEIGHBOUR);
	if (unlikely(gale_is_hairpin(ctx, p, hop)))
		return gale_refuse(way, GALE_REASON_HAIRPIN);
	gale_keep(p, way);
	way->hop = hop;
	return GALE_SEND;
}
