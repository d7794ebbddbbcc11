/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Packets of our own, made of one that arrived: ICMP time exceeded, packet too big, TCP RST. */
#ifndef GALELB_REPLY_H
#define GALELB_REPLY_H

#define GALE_REPLY_HOPS		64	/* TTL of what we send */
#define GALE_MAX_L2		18	/* Ethernet and one tag */

/* The sum of `len` bytes at `offset`, both even. */
static __always_inline u64 gale_sum_bytes(GALE_CTX *ctx, u32 offset, u32 len)
{
	void *data = gale_data(ctx) + offset, *end = gale_data_end(ctx);
	u64 sum = 0;
	u32 i;

	for (i = 0; i < GALE_QUOTE / 2; i++) {
		u16 *word = data + 2 * i;

		if (2 * i >= len || (void *)(word + 1) > end)
			break;
		sum += *word;
	}
	return sum;
}

/* The link layer turned round: MACs swapped, a tag kept. */
static __always_inline int gale_reply_l2(GALE_CTX *ctx, u8 *l2, u32 len)
{
	u8 mac[6];

	if (gale_load(ctx, 0, l2, sizeof(struct gale_eth)))
		return -1;
	if (len > sizeof(struct gale_eth) &&
	    gale_load(ctx, sizeof(struct gale_eth), l2 + sizeof(struct gale_eth),
		      sizeof(struct gale_vlan)))
		return -1;
	__builtin_memcpy(mac, l2, 6);
	__builtin_memcpy(l2, l2 + 6, 6);
	__builtin_memcpy(l2 + 6, mac, 6);
	return 0;
}

static __always_inline int gale_reply_store_l2(GALE_CTX *ctx, u8 *l2, u32 len)
{
	if (len > sizeof(struct gale_eth))
		return gale_store(ctx, 0, l2, GALE_MAX_L2);
	return gale_store(ctx, 0, l2, sizeof(struct gale_eth));
}

/* An IPv4 header from `addr` back to the sender of `p`. */
static __always_inline void gale_reply_ipv4(struct gale_ipv4 *ip, struct gale_packet *p, u32 *addr,
					    u8 protocol, u16 len)
{
	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = htons(len);
	ip->frag_off = htons(0x4000);
	ip->ttl = GALE_REPLY_HOPS;
	ip->protocol = protocol;
	ip->saddr = addr[0];
	ip->daddr = p->saddr[0];
	ip->check = gale_csum_apply(0xffff, gale_sum_words((u32 *)ip, 5));
}

#ifdef GALE_IPV6
static __always_inline void gale_reply_ipv6(struct gale_ipv6 *ip, struct gale_packet *p, u32 *addr,
					    u8 protocol, u16 len)
{
	ip->flow = htonl(6U << 28);
	ip->payload_len = htons(len);
	ip->nexthdr = protocol;
	ip->hop_limit = GALE_REPLY_HOPS;
	__builtin_memcpy(ip->saddr, addr, 16);
	__builtin_memcpy(ip->daddr, p->saddr, 16);
}
#endif

/* What the upper layer's checksum covers beside itself. */
static __always_inline u64 gale_sum_pseudo(struct gale_packet *p, u32 *addr, u8 protocol, u16 len)
{
	u64 sum = (u64)htons(len) + htons(protocol);

#ifdef GALE_IPV6
	if (p->family == GALE_FAMILY_IPV6)
		return sum + gale_sum_words(addr, 4) + gale_sum_words(p->saddr, 4);
#endif
	return sum + addr[0] + p->saddr[0];
}

static __always_inline void gale_reply_icmp_fill(struct gale_icmp *icmp, struct gale_packet *p,
						 u32 kind, u32 mtu)
{
	__builtin_memset(icmp, 0, sizeof(*icmp));
	if (p->family == GALE_FAMILY_IPV6) {
		icmp->type = kind == GALE_REPLY_TTL ? 3 : 2;
		if (kind == GALE_REPLY_TOO_BIG)
			icmp->mtu = htons(mtu);
	} else {
		icmp->type = kind == GALE_REPLY_TTL ? 11 : 3;
		icmp->code = kind == GALE_REPLY_TTL ? 0 : 4;
		if (kind == GALE_REPLY_TOO_BIG)
			icmp->mtu = htons(mtu);
	}
}

/* Put IP and ICMP headers and a turned link layer before what is quoted, and cut the rest off. */
static __always_inline int gale_reply_icmp(GALE_CTX *ctx, struct gale_packet *p,
					   struct gale_scratch *scratch)
{
	u32 l2 = p->l3 > sizeof(struct gale_eth) ? GALE_MAX_L2 : sizeof(struct gale_eth);
	u32 quote = gale_quote_len(p), len = quote + sizeof(struct gale_icmp);
	u8 frame[GALE_MAX_L2 + 2];
	struct gale_icmp icmp;
	u64 sum;

	if (gale_reply_l2(ctx, frame, l2) || gale_trim(ctx, l2 + gale_kept_len(p)))
		return -1;
	gale_reply_icmp_fill(&icmp, p, scratch->kind, scratch->mtu);
	sum = gale_sum_bytes(ctx, l2, quote) + gale_sum_words((u32 *)&icmp, 2);
#ifdef GALE_IPV6
	if (p->family == GALE_FAMILY_IPV6) {
		struct gale_ipv6 ip;

		sum += gale_sum_pseudo(p, scratch->addr, GALE_IP_ICMPV6, len);
		icmp.check = gale_csum_apply(0xffff, sum);
		gale_reply_ipv6(&ip, p, scratch->addr, GALE_IP_ICMPV6, len);
		if (gale_grow_head(ctx, sizeof(ip) + sizeof(icmp)) ||
		    gale_store(ctx, l2, &ip, sizeof(ip)) ||
		    gale_store(ctx, l2 + sizeof(ip), &icmp, sizeof(icmp)))
			return -1;
	} else
#endif
	{
		struct gale_ipv4 ip;

		icmp.check = gale_csum_apply(0xffff, sum);
		gale_reply_ipv4(&ip, p, scratch->addr, GALE_IP_ICMP, len + sizeof(ip));
		if (gale_grow_head(ctx, sizeof(ip) + sizeof(icmp)) ||
		    gale_store(ctx, l2, &ip, sizeof(ip)) ||
		    gale_store(ctx, l2 + sizeof(ip), &icmp, sizeof(icmp)))
			return -1;
	}
	return gale_reply_store_l2(ctx, frame, l2);
}

/* RFC 9293, 3.10.7.1: what answers a segment of a connection that does not exist. */
static __always_inline int gale_reset_fill(GALE_CTX *ctx, struct gale_packet *p,
					   struct gale_tcp *tcp)
{
	u32 seq, used;

	if (gale_load(ctx, p->l4, tcp, sizeof(*tcp)))
		return -1;
	used = p->l3 + p->len - p->l4 - (tcp->offset >> 4) * 4;
	used += !!(tcp->flags & GALE_TCP_SYN) + !!(tcp->flags & GALE_TCP_FIN);
	seq = tcp->seq;
	if (tcp->flags & GALE_TCP_ACK) {
		tcp->seq = tcp->ack;
		tcp->ack = 0;
		tcp->flags = GALE_TCP_RST;
	} else {
		tcp->seq = 0;
		tcp->ack = htonl(ntohl(seq) + used);
		tcp->flags = GALE_TCP_RST | GALE_TCP_ACK;
	}
	tcp->sport = p->dport;
	tcp->dport = p->sport;
	tcp->offset = 5 << 4;
	tcp->window = 0;
	tcp->urgent = 0;
	tcp->check = 0;
	return 0;
}

/* Overwrite the segment by a RST from `addr` to its sender. */
static __always_inline int gale_reply_reset(GALE_CTX *ctx, struct gale_packet *p,
					    struct gale_scratch *scratch)
{
	u32 l2 = p->l3 > sizeof(struct gale_eth) ? GALE_MAX_L2 : sizeof(struct gale_eth);
	u8 frame[GALE_MAX_L2 + 2];
	struct gale_tcp tcp;
	u32 l4;
	u64 sum;

	if (gale_reset_fill(ctx, p, &tcp) || gale_reply_l2(ctx, frame, l2))
		return -1;
	sum = gale_sum_pseudo(p, scratch->addr, GALE_IP_TCP, sizeof(tcp));
	tcp.check = gale_csum_apply(0xffff, sum + gale_sum_words((u32 *)&tcp, 5));
#ifdef GALE_IPV6
	if (p->family == GALE_FAMILY_IPV6) {
		struct gale_ipv6 ip;

		l4 = l2 + sizeof(ip);
		gale_reply_ipv6(&ip, p, scratch->addr, GALE_IP_TCP, sizeof(tcp));
		if (gale_store(ctx, l2, &ip, sizeof(ip)))
			return -1;
	} else
#endif
	{
		struct gale_ipv4 ip;

		l4 = l2 + sizeof(ip);
		gale_reply_ipv4(&ip, p, scratch->addr, GALE_IP_TCP, sizeof(ip) + sizeof(tcp));
		if (gale_store(ctx, l2, &ip, sizeof(ip)))
			return -1;
	}
	if (gale_store(ctx, l4, &tcp, sizeof(tcp)) || gale_reply_store_l2(ctx, frame, l2))
		return -1;
	return gale_trim(ctx, l4 + sizeof(tcp));
}

/* RFC 1122, 3.2.2: what did not come from one host is not answered. */
static __always_inline int gale_reply_may(GALE_CTX *ctx, struct gale_packet *p)
{
	u8 mac[12], first = p->saddr[0];

	if (gale_load(ctx, 0, mac, sizeof(mac)) || mac[6] & 1)
		return 0;
#ifdef GALE_IPV6
	if (p->family == GALE_FAMILY_IPV6)	/* multicast, ::, ::1 */
		return first != 0xff && (p->saddr[0] | p->saddr[1] | p->saddr[2] |
					 (p->saddr[3] & ~htonl(1)));
#endif
	return first && first != 127 && first < 224;
}

/* What is counted when no message is sent. */
static __always_inline u32 gale_reply_withheld(u32 kind)
{
	if (kind == GALE_REPLY_TTL)
		return GALE_REASON_TTL_EXCEEDED;
	return kind == GALE_REPLY_TOO_BIG ? GALE_REASON_TOO_BIG : GALE_REASON_NODE_GONE;
}

int GALE_FN(reply)(GALE_CTX *ctx)
{
	struct gale_scratch *scratch = gale_scratch_get();
	u32 reason = GALE_REASON_ICMP_SENT;
	struct gale_packet *p;
	int error;

	if (!scratch)
		return GALE_DROP;
	p = &scratch->packet;
	if (!gale_reply_may(ctx, p))
		return gale_exit(ctx, p, GALE_DROP, gale_reply_withheld(scratch->kind),
				 scratch->service, 0);
	if (scratch->kind == GALE_REPLY_RESET) {
		reason = GALE_REASON_RESET_SENT;
		error = gale_reply_reset(ctx, p, scratch);
	} else {
		error = gale_reply_icmp(ctx, p, scratch);
	}
	if (error)
		return gale_exit(ctx, p, GALE_DROP, GALE_REASON_INTERNAL, scratch->service, 0);
	return gale_exit(ctx, p, gale_send_back(ctx), reason, scratch->service, 0);
}

#endif
