/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* l2_bridge: the frame goes to the node's MAC address; what is in it stays as it is. */

static __always_inline int l2_bridge_forward(GALE_CTX *ctx, struct gale_packet *p,
					     struct gale_target *t, struct gale_way *way)
{
	return gale_direct(ctx, p, t, way);
}
