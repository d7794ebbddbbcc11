/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Rewriting for TC: a checksum may be partial there, so the kernel's helpers change it. */
#ifndef GALELB_REWRITE_SKB_H
#define GALELB_REWRITE_SKB_H

static __always_inline int gale_rewrite_ipv4(GALE_CTX *ctx, struct gale_packet *p,
					     struct gale_rewrite *rw, u64 sum)
{
	u32 at = p->l3;
	u8 ttl = p->ttl - 1;

	if (p->flags & (GALE_FIRST_FRAGMENT | GALE_LATER_FRAGMENT)) {
		u16 id = rw->id;

		sum = gale_sum_replace(sum, (u16)p->fragment, id);
		if (bpf_skb_store_bytes(ctx, at + offsetof(struct gale_ipv4, id), &id, 2, 0))
			return -1;
	}
	if (rw->ttl) {
		sum = gale_sum_replace(sum, 1, 0);
		if (bpf_skb_store_bytes(ctx, at + offsetof(struct gale_ipv4, ttl), &ttl, 1, 0))
			return -1;
	}
	if (bpf_l3_csum_replace(ctx, at + offsetof(struct gale_ipv4, check), 0, gale_fold32(sum), 0))
		return -1;
	return bpf_skb_store_bytes(ctx, at + offsetof(struct gale_ipv4, saddr), rw->saddr, 4, 0) ||
	       bpf_skb_store_bytes(ctx, at + offsetof(struct gale_ipv4, daddr), rw->daddr, 4, 0);
}

#ifdef GALE_IPV6
static __always_inline int gale_rewrite_ipv6(GALE_CTX *ctx, struct gale_packet *p,
					     struct gale_rewrite *rw)
{
	u8 hops = p->ttl - rw->ttl;
	u32 at = p->l3, id = rw->id6;

	if (p->flags & (GALE_FIRST_FRAGMENT | GALE_LATER_FRAGMENT) &&
	    bpf_skb_store_bytes(ctx, p->frag_l3 + offsetof(struct gale_ipv6_frag, id), &id, 4, 0))
		return -1;
	return bpf_skb_store_bytes(ctx, at + offsetof(struct gale_ipv6, hop_limit), &hops, 1, 0) ||
	       bpf_skb_store_bytes(ctx, at + offsetof(struct gale_ipv6, saddr), rw->saddr, 16, 0) ||
	       bpf_skb_store_bytes(ctx, at + offsetof(struct gale_ipv6, daddr), rw->daddr, 16, 0);
}
#endif

static __always_inline int gale_rewrite_ports(GALE_CTX *ctx, struct gale_packet *p,
					      struct gale_rewrite *rw, u64 sum)
{
	u32 from = gale_ports_word(p->sport, p->dport), to = gale_ports_word(rw->sport, rw->dport);
	u32 at = p->l4 + offsetof(struct gale_tcp, check), flags = 0;

	if (p->protocol == GALE_IP_UDP) {
		at = p->l4 + offsetof(struct gale_udp, check);
		flags = BPF_F_MARK_MANGLED_0;	/* 0 stays 0, and is never computed */
	}
	if (bpf_l4_csum_replace(ctx, at, 0, gale_fold32(sum), flags | BPF_F_PSEUDO_HDR) ||
	    bpf_l4_csum_replace(ctx, at, from, to, flags | sizeof(to)))
		return -1;
	return bpf_skb_store_bytes(ctx, p->l4, &to, sizeof(to), 0);
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
	u8 ttl = p->ttl - 1;
	u32 at = p->l3;

#ifdef GALE_IPV6
	if (p->family == GALE_FAMILY_IPV6)
		return bpf_skb_store_bytes(ctx, at + offsetof(struct gale_ipv6, hop_limit), &ttl, 1, 0);
#endif
	if (bpf_l3_csum_replace(ctx, at + offsetof(struct gale_ipv4, check), 1, 0, 2))
		return -1;
	return bpf_skb_store_bytes(ctx, at + offsetof(struct gale_ipv4, ttl), &ttl, 1, 0);
}

#ifdef GALE_WRAP
/* Lay a tag that is in the frame beside it, where the kernel puts the tags that it receives. */
static __always_inline int gale_lift_tag(GALE_CTX *ctx, struct gale_packet *p)
{
	__be16 tci;

	if (likely(p->l3 == sizeof(struct gale_eth)))
		return 0;
	if (gale_load(ctx, sizeof(struct gale_eth), &tci, sizeof(tci)) || bpf_skb_vlan_pop(ctx))
		return -1;
	p->l3 = sizeof(struct gale_eth);
	return bpf_skb_vlan_push(ctx, htons(GALE_ETH_VLAN), ntohs(tci));
}

/*
 * Room for `len` bytes, a constant, between the Ethernet header and the packet, which becomes one of
 * `family`. Returns where they are to be written, or NULL.
 */
static __always_inline void *gale_make_room(GALE_CTX *ctx, struct gale_packet *p, u32 len,
					    u32 family, u32 udp)
{
	__be16 type = family == GALE_FAMILY_IPV6 ? htons(GALE_ETH_IPV6) : htons(GALE_ETH_IPV4);
	__be16 *to;
	u64 flags = family == GALE_FAMILY_IPV6 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 :
						 BPF_F_ADJ_ROOM_ENCAP_L3_IPV4;

	if (udp)
		flags |= BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
	if (p->protocol == GALE_IP_UDP && gale_gso_size(ctx))
		flags |= BPF_F_ADJ_ROOM_FIXED_GSO;	/* datagrams must stay as long as they are */
	if (gale_lift_tag(ctx, p) || bpf_skb_adjust_room(ctx, len, BPF_ADJ_ROOM_MAC, flags))
		return NULL;
	to = gale_data(ctx) + ((p->l3 - sizeof(type)) & 0x3f);
	if ((void *)(to + 1) + len > gale_data_end(ctx))
		return NULL;
	*to = type;
	p->family = family;
	return to + 1;
}
#endif

/* Take off or put on the tag that the way out needs, write the MACs, and send the frame off. */
static __always_inline int gale_transmit(GALE_CTX *ctx, struct gale_packet *p,
					 struct gale_next_hop *hop, u16 vlan)
{
	int same = hop->ifindex == gale_ifindex(ctx);
	u8 mac[12];

	if (!same && p->tags && bpf_skb_vlan_pop(ctx))
		return -1;
	if (vlan && !same && bpf_skb_vlan_push(ctx, htons(GALE_ETH_VLAN), vlan))
		return -1;
	__builtin_memcpy(mac, hop->dst, 6);
	__builtin_memcpy(mac + 6, hop->src, 6);
	if (bpf_skb_store_bytes(ctx, 0, mac, sizeof(mac), 0))
		return -1;
	return bpf_redirect(hop->ifindex, 0);
}

#endif
