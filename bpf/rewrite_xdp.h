/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Rewriting in place, for XDP: checksums there are whole. rewrite_skb.h is the other one. */
#ifndef GALELB_REWRITE_XDP_H
#define GALELB_REWRITE_XDP_H

static __always_inline int gale_rewrite_ipv4(GALE_CTX *ctx, struct gale_packet *p,
					     struct gale_rewrite *rw, u64 sum)
{
	struct gale_ipv4 *ip = gale_data(ctx) + GALE_L3(p);

	if ((void *)(ip + 1) > gale_data_end(ctx))
		return -1;
	if (p->flags & (GALE_FIRST_FRAGMENT | GALE_LATER_FRAGMENT)) {
		sum = gale_sum_replace(sum, ip->id, rw->id);
		ip->id = rw->id;
	}
	if (rw->ttl) {
		sum = gale_sum_replace(sum, 1, 0);	/* TTL is the low byte of its word */
		ip->ttl--;
	}
	ip->saddr = rw->saddr[0];
	ip->daddr = rw->daddr[0];
	ip->check = gale_csum_apply(ip->check, sum);
	return 0;
}

#ifdef GALE_IPV6
static __always_inline int gale_rewrite_ipv6(GALE_CTX *ctx, struct gale_packet *p,
					     struct gale_rewrite *rw)
{
	void *data = gale_data(ctx), *end = gale_data_end(ctx);
	struct gale_ipv6 *ip = data + GALE_L3(p);

	if ((void *)(ip + 1) > end)
		return -1;
	ip->hop_limit -= rw->ttl;
	__builtin_memcpy(ip->saddr, rw->saddr, 16);
	__builtin_memcpy(ip->daddr, rw->daddr, 16);
	if (p->flags & (GALE_FIRST_FRAGMENT | GALE_LATER_FRAGMENT)) {
		struct gale_ipv6_frag *frag = data + GALE_FRAG(p);

		if ((void *)(frag + 1) > end)
			return -1;
		frag->id = rw->id6;
	}
	return 0;
}
#endif

static __always_inline int gale_rewrite_ports(GALE_CTX *ctx, struct gale_packet *p,
					      struct gale_rewrite *rw, u64 sum)
{
	void *l4 = gale_data(ctx) + GALE_L4(p), *end = gale_data_end(ctx);

	sum = gale_sum_replace(sum, gale_ports_word(p->sport, p->dport),
			       gale_ports_word(rw->sport, rw->dport));
	if (p->protocol == GALE_IP_TCP) {
		struct gale_tcp *tcp = l4;

		if ((void *)(tcp + 1) > end)
			return -1;
		tcp->sport = rw->sport;
		tcp->dport = rw->dport;
		tcp->check = gale_csum_apply(tcp->check, sum);
	} else {
		struct gale_udp *udp = l4;
		u16 check;

		if ((void *)(udp + 1) > end)
			return -1;
		udp->sport = rw->sport;
		udp->dport = rw->dport;
		if (!udp->check)
			return 0;	/* the sender computed none; RFC 6935 allows that in IPv6 too */
		check = gale_csum_apply(udp->check, sum);
		udp->check = check ? check : 0xffff;
	}
	return 0;
}

static __always_inline int gale_rewrite_packet(GALE_CTX *ctx, struct gale_packet *p,
					       struct gale_rewrite *rw)
{
	u64 sum = gale_sum_addresses(p, rw);
	int error;

#ifdef GALE_IPV6
	if (p->family == GALE_FAMILY_IPV6)
		error = gale_rewrite_ipv6(ctx, p, rw);
	else
#endif
		error = gale_rewrite_ipv4(ctx, p, rw, sum);
	if (error || p->flags & (GALE_LATER_FRAGMENT | GALE_ICMP_ERROR))
		return error;
	return gale_rewrite_ports(ctx, p, rw, sum);
}

/* One hop less, and nothing else. */
static __always_inline int gale_rewrite_ttl(GALE_CTX *ctx, struct gale_packet *p)
{
	void *l3 = gale_data(ctx) + GALE_L3(p), *end = gale_data_end(ctx);
	struct gale_ipv4 *ip = l3;

#ifdef GALE_IPV6
	if (p->family == GALE_FAMILY_IPV6) {
		struct gale_ipv6 *ip6 = l3;

		if ((void *)(ip6 + 1) > end)
			return -1;
		ip6->hop_limit--;
		return 0;
	}
#endif
	if ((void *)(ip + 1) > end)
		return -1;
	ip->ttl--;
	ip->check = gale_csum_apply(ip->check, gale_sum_replace(0, 1, 0));
	return 0;
}

#ifdef GALE_WRAP
/*
 * Room for `len` bytes, a constant, between the Ethernet header and the packet, which becomes one of
 * `family`. Returns where they are to be written, or NULL.
 */
static __always_inline void *gale_make_room(GALE_CTX *ctx, struct gale_packet *p, u32 len,
					    u32 family, u32 udp)
{
	__be16 type = family == GALE_FAMILY_IPV6 ? htons(GALE_ETH_IPV6) : htons(GALE_ETH_IPV4);
	u32 at = offsetof(struct gale_eth, type), tag;
	__be16 *to;

	if (bpf_xdp_adjust_head(ctx, -(int)len))
		return NULL;
	/* one: no service is behind two */
	if (unlikely(p->tags) && (gale_load(ctx, len + at, &tag, sizeof(tag)) ||
				  gale_store(ctx, at, &tag, sizeof(tag))))
		return NULL;
	to = gale_data(ctx) + ((p->l3 - sizeof(type)) & 0x3f);
	if ((void *)(to + 1) + len > gale_data_end(ctx))
		return NULL;
	*to = type;
	p->family = family;
	return to + 1;
}
#endif

/* Both addresses in three words: compilers copy bytes where they know nothing of alignment. */
static __always_inline void gale_write_macs(struct gale_eth *eth, struct gale_next_hop *hop)
{
	u32 *to = (u32 *)eth, *from = (u32 *)hop->dst;

	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
}

/* Write the Ethernet header, with the tag that the way out needs, and send the frame off. */
static __always_inline int gale_transmit(GALE_CTX *ctx, struct gale_packet *p,
					 struct gale_next_hop *hop, u16 vlan)
{
	int same = hop->ifindex == gale_ifindex(ctx), tagged = vlan && !same;
	struct gale_eth *eth;

	if (!same && !tagged && p->tags && bpf_xdp_adjust_head(ctx, sizeof(struct gale_vlan)))
		return -1;
	if (tagged && !p->tags && bpf_xdp_adjust_head(ctx, -(int)sizeof(struct gale_vlan)))
		return -1;
	eth = gale_data(ctx);
	if ((void *)(eth + 1) + sizeof(struct gale_vlan) > gale_data_end(ctx))
		return -1;
	gale_write_macs(eth, hop);
	if (tagged) {
		struct gale_vlan *tag = (void *)(eth + 1);

		eth->type = htons(GALE_ETH_VLAN);
		tag->tci = htons(vlan);
		tag->type = p->family == GALE_FAMILY_IPV6 ? htons(GALE_ETH_IPV6) : htons(GALE_ETH_IPV4);
	} else if (!same && p->tags) {
		eth->type = p->family == GALE_FAMILY_IPV6 ? htons(GALE_ETH_IPV6) : htons(GALE_ETH_IPV4);
	}
	return same ? gale_bounce(hop->ifindex) : bpf_redirect(hop->ifindex, 0);
}

#endif
