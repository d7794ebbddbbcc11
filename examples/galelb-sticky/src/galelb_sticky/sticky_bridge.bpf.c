/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* sticky_bridge: to the MAC address of the node that the client's network always meets. */

/* The leading `bits` of an address, as far as they lie in its word number `word`. */
static __always_inline u32 sticky_bridge_mask(u32 bits, u32 word)
{
	if (bits >= 32 * (word + 1))
		return ~0U;
	return bits <= 32 * word ? 0 : htonl(~0U << (32 - bits % 32));
}

static __always_inline int sticky_bridge_select(struct gale_packet *p, struct gale_target *t,
						u32 *client, u16 port)
{
	u32 network[GALE_WORDS], i;

#pragma unroll
	for (i = 0; i < GALE_WORDS; i++)
		network[i] = client[i] & (p->family == GALE_FAMILY_IPV6 ?
					  sticky_bridge_mask(STICKY_IPV6_PREFIX, i) :
					  sticky_bridge_mask(STICKY_IPV4_PREFIX, i));
	return gale_target_select(p, t, network, 0);
}

static __always_inline int sticky_bridge_forward(GALE_CTX *ctx, struct gale_packet *p,
						 struct gale_target *t, struct gale_way *way)
{
	return gale_direct(ctx, p, t, way);
}
