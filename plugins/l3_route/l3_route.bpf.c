/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* l3_route: the packet is routed to the node, inside another one or as it is. */

#define L3_ROUTE_HOPS		64	/* TTL of outer packets */
#define L3_ROUTE_IPIP		4	/* protocol numbers of what is inside: IPv4, IPv6 */
#define L3_ROUTE_IPV6IP		41
#define L3_ROUTE_GUE_PORTS	0x3fff	/* source ports vary from 49152 on: RFC 7510, 3 */

#ifdef L3_ROUTE_GUE
#define L3_ROUTE_UDP_BYTES	8	/* sizeof(struct gale_udp); GUE variant 1 has no header */
#else
#define L3_ROUTE_UDP_BYTES	0
#endif

/* Bytes that go before a packet to this node. */
static __always_inline u32 l3_route_outer(struct gale_node *node)
{
#ifdef L3_ROUTE_OUTER_IPV6
	if (node->flags & GALE_NODE_IPV6)
		return sizeof(struct gale_ipv6) + L3_ROUTE_UDP_BYTES;
#endif
#ifdef L3_ROUTE_OUTER_IPV4
	return sizeof(struct gale_ipv4) + L3_ROUTE_UDP_BYTES;
#else
	return 0;
#endif
}

static __always_inline int l3_route_forward(GALE_CTX *ctx, struct gale_packet *p,
					    struct gale_target *t, struct gale_way *way)
{
	int decided = gale_direct(ctx, p, t, way);

	if (decided != GALE_SEND)
		return decided;
	way->rw.ttl = 1;
	way->outer = l3_route_outer(t->node);
	way->seed = t->hash;
	return GALE_SEND;
}

/* The protocol number that says what is inside. */
static __always_inline u8 l3_route_inside(u32 family)
{
#ifdef L3_ROUTE_GUE
	return GALE_IP_UDP;
#else
	return family == GALE_FAMILY_IPV6 ? L3_ROUTE_IPV6IP : L3_ROUTE_IPIP;
#endif
}

/* Traffic class: DSCP and ECN are those of the packet inside (RFC 2983, RFC 6040). */
static __always_inline int l3_route_tos(GALE_CTX *ctx, struct gale_packet *p, u8 *tos)
{
	u8 *head = gale_data(ctx) + GALE_L3(p);

	if ((void *)(head + 2) > gale_data_end(ctx))
		return -1;
	*tos = p->family == GALE_FAMILY_IPV6 ? head[0] << 4 | head[1] >> 4 : head[1];
	return 0;
}

/* UDP without a checksum: what is inside has its own (RFC 6935, RFC 6936). */
static __always_inline void l3_route_udp(struct gale_udp *udp, u32 len, u32 seed)
{
#ifdef L3_ROUTE_GUE
	udp->sport = htons(~L3_ROUTE_GUE_PORTS | (seed & L3_ROUTE_GUE_PORTS));
	udp->dport = htons(L3_ROUTE_GUE);
	udp->len = htons(len + sizeof(*udp));
	udp->check = 0;
#endif
}

#ifdef L3_ROUTE_OUTER_IPV4
static __always_inline int l3_route_wrap_ipv4(GALE_CTX *ctx, struct gale_packet *p,
					      struct gale_node *node, u32 seed, u8 tos)
{
	u32 len = sizeof(struct gale_ipv4) + L3_ROUTE_UDP_BYTES, daddr = node->addr[0];
	u8 inside = l3_route_inside(p->family);
	struct gale_ipv4 *ip = gale_make_room(ctx, p, len, GALE_FAMILY_IPV4, L3_ROUTE_UDP_BYTES);

	if (!ip)
		return -1;
	ip->version = 4;
	ip->ihl = sizeof(*ip) / 4;
	ip->tos = tos;
	ip->tot_len = htons(len + p->len);
	ip->id = 0;
	ip->frag_off = htons(0x4000);	/* DF: it never needs fragments, so its id may be 0 (RFC 6864) */
	ip->ttl = L3_ROUTE_HOPS;
	ip->protocol = inside;
	ip->check = 0;
	ip->saddr = L3_ROUTE_SOURCE4_0 | htonl(seed & L3_ROUTE_VARY4);
	ip->daddr = daddr;
	ip->check = gale_csum_apply(0xffff, gale_sum_words((u32 *)ip, sizeof(*ip) / 4));
	l3_route_udp((void *)(ip + 1), p->len, seed);
	return 0;
}
#endif

#ifdef L3_ROUTE_OUTER_IPV6
static __always_inline int l3_route_wrap_ipv6(GALE_CTX *ctx, struct gale_packet *p,
					      struct gale_node *node, u32 seed, u8 tos)
{
	u32 len = sizeof(struct gale_ipv6) + L3_ROUTE_UDP_BYTES;
	u8 inside = l3_route_inside(p->family);
	struct gale_ipv6 *ip = gale_make_room(ctx, p, len, GALE_FAMILY_IPV6, L3_ROUTE_UDP_BYTES);

	if (!ip)
		return -1;
	/* the flow label spreads flows too (RFC 6438) */
	ip->flow = htonl(6U << 28 | (u32)tos << 20 | (seed & 0xfffff));
	ip->payload_len = htons(p->len + L3_ROUTE_UDP_BYTES);
	ip->nexthdr = inside;
	ip->hop_limit = L3_ROUTE_HOPS;
	ip->saddr[0] = L3_ROUTE_SOURCE6_0;
	ip->saddr[1] = L3_ROUTE_SOURCE6_1;
	ip->saddr[2] = L3_ROUTE_SOURCE6_2;
	ip->saddr[3] = L3_ROUTE_SOURCE6_3 | htonl(seed & L3_ROUTE_VARY6);
	__builtin_memcpy(ip->daddr, node->addr, 16);
	l3_route_udp((void *)(ip + 1), p->len, seed);
	return 0;
}
#endif

static __always_inline int l3_route_wrap(GALE_CTX *ctx, struct gale_packet *p,
					 struct gale_way *way)
{
	struct gale_node *node = gale_node_get(way->node);
	u8 tos;

	if (!node || l3_route_tos(ctx, p, &tos))
		return -1;
#ifdef L3_ROUTE_OUTER_IPV6
	if (node->flags & GALE_NODE_IPV6)
		return l3_route_wrap_ipv6(ctx, p, node, way->seed, tos);
#endif
#ifdef L3_ROUTE_OUTER_IPV4
	return l3_route_wrap_ipv4(ctx, p, node, way->seed, tos);
#else
	return -1;
#endif
}
