/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Frame -> struct gale_packet. Answers -1 for anything that we cannot read: it is passed. IPv6
 * extension headers are walked in a program of their own, since no path of a fast one may loop.
 */
#ifndef GALELB_PARSE_H
#define GALELB_PARSE_H

static __always_inline int gale_parse_l4(struct gale_packet *p, void *data, void *end)
{
	void *l4 = data + p->l4;
	u32 room = p->len + p->l3 - p->l4;

	GALE_OPAQUE(l4);	/* else clang computes it anew after the checks */
	if (p->protocol == GALE_IP_TCP) {
		struct gale_tcp *tcp = l4;
		u32 words;

		if ((void *)(tcp + 1) > end)
			return -1;
		words = tcp->offset >> 4;
		if (words < 5 || (words * 4 > room && !(p->flags & GALE_FIRST_FRAGMENT)))
			return -1;
		p->sport = tcp->sport;
		p->dport = tcp->dport;
		p->tcp_flags = tcp->flags;
		return room < sizeof(*tcp) ? -1 : 0;
	}
	if (p->protocol == GALE_IP_UDP) {
		struct gale_udp *udp = l4;

		if ((void *)(udp + 1) > end || room < sizeof(*udp))
			return -1;
		p->sport = udp->sport;
		p->dport = udp->dport;
		return 0;
	}
	if ((p->protocol == GALE_IP_ICMP && p->family == GALE_FAMILY_IPV4) ||
	    (p->protocol == GALE_IP_ICMPV6 && p->family == GALE_FAMILY_IPV6)) {
		struct gale_icmp *icmp = l4;

		if ((void *)(icmp + 1) > end || room < sizeof(*icmp))
			return -1;
		p->icmp_type = icmp->type;
		if (p->family == GALE_FAMILY_IPV6 ? icmp->type >= 1 && icmp->type <= 4 :
		    icmp->type == 3 || icmp->type == 11 || icmp->type == 12)
			p->flags |= GALE_ICMP_ERROR;
	}
	return 0;
}

/* The length that the IP header claims must be there; a GSO packet of TC may claim none. */
static __always_inline int gale_parse_len(GALE_CTX *ctx, struct gale_packet *p, u32 len)
{
	p->len = len;
	if (p->l3 + len <= gale_linear_len(ctx))
		return 0;
	return p->l3 + len <= gale_frame_len(ctx) ? 0 : -1;
}

static __always_inline int gale_parse_ipv4(GALE_CTX *ctx, struct gale_packet *p)
{
	void *data = gale_data(ctx), *end = gale_data_end(ctx);
	struct gale_ipv4 *ip = data + p->l3;
	u32 header, len;
	u16 frag;

	if ((void *)(ip + 1) > end)
		return -1;
	header = ip->ihl * 4;
	len = ntohs(ip->tot_len);
	if (!len && gale_gso_size(ctx))
		len = gale_frame_len(ctx) - p->l3;
	if (ip->version != 4 || header < sizeof(*ip) || len < header)
		return -1;
	p->family = GALE_FAMILY_IPV4;
	p->protocol = ip->protocol;
	p->ttl = ip->ttl;
	p->saddr[0] = ip->saddr;
	p->daddr[0] = ip->daddr;
	p->l4 = p->l3 + header;
	if (gale_parse_len(ctx, p, len))
		return -1;
	frag = ntohs(ip->frag_off);
	if (unlikely(frag & (GALE_IP_MF | GALE_IP_OFFSET))) {
		p->fragment = ip->id;
		p->flags |= frag & GALE_IP_OFFSET ? GALE_LATER_FRAGMENT : GALE_FIRST_FRAGMENT;
		if (frag & GALE_IP_OFFSET)
			return 0;
	}
	return gale_parse_l4(p, data, end);
}

#ifdef GALE_IPV6
static __always_inline int gale_is_extension(u8 protocol)
{
	return protocol == GALE_IP6_HOPOPTS || protocol == GALE_IP6_DSTOPTS ||
	       protocol == GALE_IP6_ROUTING || protocol == GALE_IP6_AH ||
	       protocol == GALE_IP6_FRAGMENT;
}

/* One extension header: 1 = go on, 0 = the upper layer or a later fragment is reached. */
static __always_inline int gale_parse_extension(struct gale_packet *p, void *data, void *end)
{
	struct gale_ipv6_ext *ext = data + p->l4;
	struct gale_ipv6_frag *frag = data + p->l4;
	u16 offset;

	switch (p->protocol) {
	case GALE_IP6_HOPOPTS:
	case GALE_IP6_DSTOPTS:
	case GALE_IP6_ROUTING:
	case GALE_IP6_AH:
		if ((void *)(ext + 1) > end)
			return -1;
		if (p->protocol == GALE_IP6_ROUTING && ext->left)
			return -1;	/* we are a stop on its way, not its end */
		p->l4 += p->protocol == GALE_IP6_AH ? (ext->len + 2) * 4 : (ext->len + 1) * 8;
		p->protocol = ext->nexthdr;
		return 1;
	case GALE_IP6_FRAGMENT:
		if ((void *)(frag + 1) > end)
			return -1;
		offset = ntohs(frag->offset);
		p->frag_l3 = p->l4;
		p->fragment = frag->id;
		p->l4 += sizeof(*frag);
		p->protocol = frag->nexthdr;
		if (offset & GALE_IP6_OFFSET)
			p->flags |= GALE_LATER_FRAGMENT;
		else if (offset & GALE_IP6_MF)
			p->flags |= GALE_FIRST_FRAGMENT;
		return !(offset & GALE_IP6_OFFSET);
	}
	return 0;
}

static __always_inline int gale_parse_ipv6(GALE_CTX *ctx, struct gale_packet *p)
{
	void *data = gale_data(ctx), *end = gale_data_end(ctx);
	struct gale_ipv6 *ip = data + p->l3;
	u32 len;

	if ((void *)(ip + 1) > end || (*(u8 *)ip >> 4) != 6)
		return -1;
	len = ntohs(ip->payload_len) + sizeof(*ip);
	if (len == sizeof(*ip) && gale_gso_size(ctx))
		len = gale_frame_len(ctx) - p->l3;
	p->family = GALE_FAMILY_IPV6;
	p->protocol = ip->nexthdr;
	p->ttl = ip->hop_limit;
	__builtin_memcpy(p->saddr, ip->saddr, 16);
	__builtin_memcpy(p->daddr, ip->daddr, 16);
	p->l4 = p->l3 + sizeof(*ip);
	if (gale_parse_len(ctx, p, len))
		return -1;
	if (unlikely(gale_is_extension(p->protocol)))
		return GALE_EXTENSIONS;
	return gale_parse_l4(p, data, end);
}

/* The rest of a packet for which gale_parse answered GALE_EXTENSIONS. */
static __always_inline int gale_parse_extensions(GALE_CTX *ctx, struct gale_packet *p)
{
	void *data = gale_data(ctx), *end = gale_data_end(ctx);
	int i, more = 1;

	for (i = 0; i <= GALE_MAX_EXTENSIONS && more > 0; i++) {
		more = gale_parse_extension(p, data, end);
		if (p->l4 > GALE_MAX_L4)
			return -1;
		p->l4 &= GALE_MAX_L4;
	}
	if (more || p->l4 > p->l3 + p->len)
		return -1;
	return p->flags & GALE_LATER_FRAGMENT ? 0 : gale_parse_l4(p, data, end);
}
#endif

/* Up to two tags, in the data or beside it; VID 0 is a priority tag and no VLAN. */
static __always_inline __be16 gale_parse_tags(GALE_CTX *ctx, struct gale_packet *p, __be16 type)
{
	void *data = gale_data(ctx), *end = gale_data_end(ctx);
	u16 tci = 0;
	int i;

	p->tags = gale_hw_tag(ctx, &tci);
	for (i = 0; i < 2; i++) {
		struct gale_vlan *tag = data + p->l3;

		if (type != htons(GALE_ETH_VLAN) && type != htons(GALE_ETH_QINQ))
			break;
		if ((void *)(tag + 1) > end)
			break;
		tci = ntohs(tag->tci);
		type = tag->type;
		p->l3 += sizeof(*tag);
		p->tags++;
	}
	p->vlan = p->tags > 1 ? GALE_NO_VLAN_MATCH : tci & GALE_VID_MASK;
	return type;
}

static __always_inline int gale_parse(GALE_CTX *ctx, struct gale_packet *p)
{
	struct gale_eth *eth;
	__be16 type;

	gale_pull(ctx);
	eth = gale_data(ctx);
	if ((void *)(eth + 1) > gale_data_end(ctx))
		return -1;
	p->l3 = sizeof(*eth);
	type = gale_parse_tags(ctx, p, eth->type);
	if (type == htons(GALE_ETH_IPV4))
		return gale_parse_ipv4(ctx, p);
#ifdef GALE_IPV6
	if (type == htons(GALE_ETH_IPV6))
		return gale_parse_ipv6(ctx, p);
#endif
	return -1;
}

#endif
