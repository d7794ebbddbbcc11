/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Frames for other machines. A switch that does not know (any more) where a machine is sends its
 * frames to all, and XDP sees them all. In a group they may be frames for another balancer: if two
 * of them forward a packet, a client gets two answers.
 */
#ifndef GALELB_OWN_H
#define GALELB_OWN_H

#ifdef GALE_OWN_MACS
static __always_inline int gale_is_others(GALE_CTX *ctx)
{
	u32 ifindex = gale_ifindex(ctx), at = ifindex % GALE_OWN_MACS;
	struct gale_own_mac *own = gale_own_macs.lookup(&at);
	u32 *to = gale_data(ctx), *mac;

	/* of an interface that nobody told of, everything is ours */
	if (!own || own->ifindex != ifindex)
		return 0;
	if ((void *)to + sizeof(struct gale_eth) > gale_data_end(ctx))
		return 0;
	mac = (u32 *)own->mac;
	if (likely((u16)to[1] == (u16)mac[1] && to[0] == mac[0]))
		return 0;
	return !(*(u8 *)to & 1);	/* a group of machines may be meant, and we are in it */
}
#else
#define gale_is_others(ctx)	0
#endif

#endif
