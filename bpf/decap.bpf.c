/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Runs on nodes, not on balancers: takes the outer headers off packets that a balancer sent to this
 * machine inside others, so that the kernel sees the client's packet to a VIP.
 *
 * What it takes off: IPv4 or IPv6 right before IPv4 or IPv6 (protocols 4 and 41), or UDP between
 * them by variant 1 of GUE, in which the inner packet follows the UDP header at once. Only for
 * outer destinations and inner ones that the node agent wrote into the maps; everything else passes
 * untouched. A UDP checksum is not verified: the inner packet has its own.
 */

#define GALE_IP_IPIP		4
#define GALE_IP_IPV6		41
#define GALE_IPV4_PLAIN		0x45	/* version 4, no options */
#define GALE_ECN_MASK		3
#define GALE_ECN_CE		3
#define GALE_IPV6_ECN(flow)	((ntohl(flow) >> 20) & GALE_ECN_MASK)

/* An end of a tunnel: the node's address or the VIP inside. */
struct gale_decap_key {
	u32 addr[4];
	__be16 port;		/* of GUE; 0 = no UDP between the two IP headers */
	u16 family;		/* GALE_FAMILY_* */
};

/* outer destinations; written by the node agent */
GALE_MAP("hash", struct gale_decap_key, u32, gale_decap_outer, GALE_DECAP_OUTER, 0)
/* inner destinations; written by the node agent */
GALE_MAP("hash", struct gale_decap_key, u32, gale_decap_inner, GALE_DECAP_INNER, 0)
/* outcome (GALE_DECAP_*) -> packets */
GALE_MAP("percpu_array", u32, u64, gale_decap_stats, GALE_DECAP_OUTCOMES, 0)

/* A packet in a packet; offsets from the start of the frame. */
struct gale_tunnel {
	u32 l3;			/* the outer IP header */
	u32 inner;		/* the inner one */
	u32 end;		/* of the outer packet, as its headers say */
	u8 protocol;		/* of the outer packet */
	u8 ecn;			/* of the outer packet */
};

/* For the verifier, which forgets bounds of what was on the stack. */
#define GALE_OUTER(t)		((t)->l3 & 0x1f)
#define GALE_INNER(t)		((t)->inner & 0x7f)

static __always_inline void *gale_data(struct xdp_md *ctx)
{
	return (void *)(long)ctx->data;
}

static __always_inline void *gale_data_end(struct xdp_md *ctx)
{
	return (void *)(long)ctx->data_end;
}

/* The EtherType behind at most one tag, 0 if unreadable. */
static __always_inline __be16 gale_decap_link(struct xdp_md *ctx, struct gale_tunnel *t)
{
	void *end = gale_data_end(ctx);
	struct gale_eth *eth = gale_data(ctx);
	struct gale_vlan *vlan = (void *)(eth + 1);

	if ((void *)(eth + 1) > end)
		return 0;
	t->l3 = sizeof(*eth);
	if (eth->type != htons(GALE_ETH_VLAN) && eth->type != htons(GALE_ETH_QINQ))
		return eth->type;
	if ((void *)(vlan + 1) > end)
		return 0;
	t->l3 += sizeof(*vlan);
	return vlan->type;
}

/* 0 = it may be a tunnel, and `key` has the destination. Fragments are none. */
static __always_inline int gale_decap_ipv4(struct xdp_md *ctx, struct gale_tunnel *t,
					   struct gale_decap_key *key)
{
	struct gale_ipv4 *ip = gale_data(ctx) + GALE_OUTER(t);

	if ((void *)(ip + 1) > gale_data_end(ctx) || *(u8 *)ip != GALE_IPV4_PLAIN ||
	    ip->frag_off & htons(GALE_IP_MF | GALE_IP_OFFSET))
		return -1;
	key->addr[0] = ip->daddr;
	key->family = GALE_FAMILY_IPV4;
	t->protocol = ip->protocol;
	t->ecn = ip->tos & GALE_ECN_MASK;
	t->end = t->l3 + ntohs(ip->tot_len);
	t->inner = t->l3 + sizeof(*ip);
	return 0;
}

static __always_inline int gale_decap_ipv6(struct xdp_md *ctx, struct gale_tunnel *t,
					   struct gale_decap_key *key)
{
	struct gale_ipv6 *ip = gale_data(ctx) + GALE_OUTER(t);

	if ((void *)(ip + 1) > gale_data_end(ctx) || *(u8 *)ip >> 4 != 6)
		return -1;
	__builtin_memcpy(key->addr, ip->daddr, sizeof(key->addr));
	key->family = GALE_FAMILY_IPV6;
	t->protocol = ip->nexthdr;
	t->ecn = GALE_IPV6_ECN(ip->flow);
	t->end = t->l3 + sizeof(*ip) + ntohs(ip->payload_len);
	t->inner = t->l3 + sizeof(*ip);
	return 0;
}

/* Step over UDP; 0 = what follows may be an inner packet. */
static __always_inline int gale_decap_udp(struct xdp_md *ctx, struct gale_tunnel *t,
					  struct gale_decap_key *key)
{
	struct gale_udp *udp = gale_data(ctx) + GALE_INNER(t);
	u32 end;

	if ((void *)(udp + 1) > gale_data_end(ctx) || !udp->dport)
		return -1;
	end = t->inner + ntohs(udp->len);
	if (end < t->end)
		t->end = end;
	key->port = udp->dport;
	t->inner += sizeof(*udp);
	return 0;
}

/* 0 = a tunnel whose outer end we are. */
static __always_inline int gale_decap_find(struct xdp_md *ctx, struct gale_tunnel *t,
					   struct gale_decap_key *key)
{
	__be16 type = gale_decap_link(ctx, t);

	if (type == htons(GALE_ETH_IPV4)) {
		if (gale_decap_ipv4(ctx, t, key))
			return -1;
	} else if (type == htons(GALE_ETH_IPV6)) {
		if (gale_decap_ipv6(ctx, t, key))
			return -1;
	} else {
		return -1;
	}
	if (t->protocol == GALE_IP_UDP) {
		if (gale_decap_udp(ctx, t, key))
			return -1;
	} else if (t->protocol != GALE_IP_IPIP && t->protocol != GALE_IP_IPV6) {
		return -1;
	}
	return gale_decap_outer.lookup(key) ? 0 : -1;
}

/* Whether the checksum of the outer header is right; for IPv6 there is none. */
static __always_inline int gale_decap_sound(struct xdp_md *ctx, struct gale_tunnel *t, u16 family)
{
	u32 *word = gale_data(ctx) + GALE_OUTER(t);

	if (family == GALE_FAMILY_IPV6)
		return 1;
	if ((void *)(word + 5) > gale_data_end(ctx))
		return 0;
	return gale_fold16((u64)word[0] + word[1] + word[2] + word[3] + word[4]) == 0xffff;
}

/* RFC 6040: congestion that the outer packet met is told by the inner one. -1 = it cannot. */
static __always_inline int gale_decap_ecn_ipv4(struct gale_ipv4 *ip)
{
	u32 *word = (u32 *)ip, before = *word;

	if (!(ip->tos & GALE_ECN_MASK))
		return -1;
	ip->tos |= GALE_ECN_CE;
	ip->check = gale_csum_apply(ip->check, gale_sum_replace(0, before, *word));
	return 0;
}

static __always_inline int gale_decap_ecn_ipv6(struct gale_ipv6 *ip)
{
	if (!GALE_IPV6_ECN(ip->flow))
		return -1;
	ip->flow |= htonl(GALE_ECN_CE << 20);
	return 0;
}

static __always_inline int gale_decap_inside_ipv4(struct xdp_md *ctx, struct gale_tunnel *t,
						  struct gale_decap_key *key)
{
	struct gale_ipv4 *ip = gale_data(ctx) + GALE_INNER(t);
	u32 header, len;

	if ((void *)(ip + 1) > gale_data_end(ctx) || t->protocol == GALE_IP_IPV6)
		return GALE_DECAP_MALFORMED;
	header = ip->ihl * 4;
	len = ntohs(ip->tot_len);
	if (header < sizeof(*ip) || len < header || t->inner + len > t->end)
		return GALE_DECAP_MALFORMED;
	key->addr[0] = ip->daddr;
	key->family = GALE_FAMILY_IPV4;
	if (!gale_decap_inner.lookup(key))
		return GALE_DECAP_FOREIGN;
	if (t->ecn == GALE_ECN_CE && gale_decap_ecn_ipv4(ip))
		return GALE_DECAP_CONGESTED;
	return GALE_DECAP_UNPACKED;
}

static __always_inline int gale_decap_inside_ipv6(struct xdp_md *ctx, struct gale_tunnel *t,
						  struct gale_decap_key *key)
{
	struct gale_ipv6 *ip = gale_data(ctx) + GALE_INNER(t);

	if ((void *)(ip + 1) > gale_data_end(ctx) || t->protocol == GALE_IP_IPIP ||
	    t->inner + sizeof(*ip) + ntohs(ip->payload_len) > t->end)
		return GALE_DECAP_MALFORMED;
	__builtin_memcpy(key->addr, ip->daddr, sizeof(key->addr));
	key->family = GALE_FAMILY_IPV6;
	if (!gale_decap_inner.lookup(key))
		return GALE_DECAP_FOREIGN;
	if (t->ecn == GALE_ECN_CE && gale_decap_ecn_ipv6(ip))
		return GALE_DECAP_CONGESTED;
	return GALE_DECAP_UNPACKED;
}

/* Look at the inner packet; its version is the first thing in it. */
static __always_inline int gale_decap_inside(struct xdp_md *ctx, struct gale_tunnel *t,
					     struct gale_decap_key *key)
{
	u8 *first = gale_data(ctx) + GALE_INNER(t);

	if (t->end > bpf_xdp_get_buff_len(ctx) || (void *)(first + 1) > gale_data_end(ctx))
		return GALE_DECAP_MALFORMED;
	switch (*first >> 4) {
	case 4:
		return gale_decap_inside_ipv4(ctx, t, key);
	case 6:
		return gale_decap_inside_ipv6(ctx, t, key);
	default:
		return GALE_DECAP_MALFORMED;
	}
}

/* Put the Ethernet header, with its tag, right before the inner packet. -1 = that fails. */
static __always_inline int gale_decap_strip(struct xdp_md *ctx, struct gale_tunnel *t, u16 family)
{
	__be16 type = family == GALE_FAMILY_IPV6 ? htons(GALE_ETH_IPV6) : htons(GALE_ETH_IPV4);
	void *data = gale_data(ctx), *end = gale_data_end(ctx);
	u32 cut = GALE_INNER(t) - GALE_OUTER(t);
	struct gale_eth eth, *to;
	struct gale_vlan tag;

	if (t->l3 == sizeof(eth)) {
		if (data + sizeof(eth) > end)
			return -1;
		__builtin_memcpy(&eth, data, sizeof(eth));
		eth.type = type;
	} else {
		if (data + sizeof(eth) + sizeof(tag) > end)
			return -1;
		__builtin_memcpy(&eth, data, sizeof(eth));
		__builtin_memcpy(&tag, data + sizeof(eth), sizeof(tag));
		tag.type = type;
	}
	if (bpf_xdp_adjust_head(ctx, cut))
		return -1;
	/* All pointers are void now. */
	to = gale_data(ctx);
	end = gale_data_end(ctx);
	if ((void *)(to + 1) > end)
		return -1;
	__builtin_memcpy(to, &eth, sizeof(eth));
	if (t->l3 == sizeof(eth))
		return 0;
	if ((void *)(to + 1) + sizeof(tag) > end)
		return -1;
	__builtin_memcpy(to + 1, &tag, sizeof(tag));
	return 0;
}

static __always_inline u32 gale_decap_packet(struct xdp_md *ctx)
{
	struct gale_decap_key outer = {}, inner = {};
	struct gale_tunnel tunnel = {};
	u32 outcome;

	if (gale_decap_find(ctx, &tunnel, &outer))
		return GALE_DECAP_PASSED;
	if (!gale_decap_sound(ctx, &tunnel, outer.family))
		return GALE_DECAP_MALFORMED;
	inner.port = outer.port;
	outcome = gale_decap_inside(ctx, &tunnel, &inner);
	if (outcome == GALE_DECAP_UNPACKED && gale_decap_strip(ctx, &tunnel, inner.family))
		return GALE_DECAP_BROKEN;
	return outcome;
}

int gale_decap(struct xdp_md *ctx)
{
	u32 outcome = gale_decap_packet(ctx);
	u64 *packets = gale_decap_stats.lookup(&outcome);

	if (packets)
		(*packets)++;
	return outcome == GALE_DECAP_CONGESTED || outcome == GALE_DECAP_BROKEN ? XDP_DROP : XDP_PASS;
}
