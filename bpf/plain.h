/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The usual packet: no tag, IPv4 without options or IPv6 without extension headers, TCP or UDP, no
 * fragment. Its offsets are constants, so nothing of what the others need is in the program that
 * carries it: they go on in GALE_SLOW_GENERAL. docs/design/004-fast-path.md has what that saves.
 */
#ifndef GALELB_PLAIN_H
#define GALELB_PLAIN_H

#define GALE_PLAIN_L3		sizeof(struct gale_eth)

/* Ports and flags; 0 = it is plain, as far as that goes. `room`: bytes from the TCP or UDP header on. */
static __always_inline int gale_plain_l4(struct gale_packet *p, struct gale_tcp *tcp, u64 room)
{
	p->sport = tcp->sport;
	p->dport = tcp->dport;
	if (p->protocol == GALE_IP_TCP) {
		u64 header = tcp->offset >> 2 & ~3;

		p->tcp_flags = tcp->flags;
		return header < sizeof(*tcp) || header > room;
	}
	return p->protocol != GALE_IP_UDP || room < sizeof(struct gale_udp);
}

/* `len`: of the whole packet, as its IP header says. */
static __always_inline int gale_plain_len(GALE_CTX *ctx, struct gale_packet *p, u64 len)
{
	u64 there = gale_data_end(ctx) - gale_data(ctx);

	p->len = len;
	return GALE_PLAIN_L3 + len > there && GALE_PLAIN_L3 + len > gale_frame_len(ctx);
}

static __always_inline int gale_plain_ipv4(GALE_CTX *ctx, struct gale_packet *p)
{
	struct gale_ipv4 *ip = gale_data(ctx) + GALE_PLAIN_L3;
	struct gale_tcp *tcp = (void *)(ip + 1);
	u64 len;

	if ((void *)(tcp + 1) > gale_data_end(ctx))
		return -1;
	len = ntohs(ip->tot_len);
	if (*(u8 *)ip != 0x45 || ip->frag_off & htons(GALE_IP_MF | GALE_IP_OFFSET))
		return -1;
	p->family = GALE_FAMILY_IPV4;
	p->protocol = ip->protocol;
	p->ttl = ip->ttl;
	p->saddr[0] = ip->saddr;
	p->daddr[0] = ip->daddr;
	p->l3 = GALE_PLAIN_L3;
	p->l4 = GALE_PLAIN_L3 + sizeof(*ip);
	if (len < sizeof(*ip) || gale_plain_l4(p, tcp, len - sizeof(*ip)))
		return -1;
	return gale_plain_len(ctx, p, len);
}

#ifdef GALE_IPV6
static __always_inline int gale_plain_ipv6(GALE_CTX *ctx, struct gale_packet *p)
{
	struct gale_ipv6 *ip = gale_data(ctx) + GALE_PLAIN_L3;
	struct gale_tcp *tcp = (void *)(ip + 1);
	u64 len;

	if ((void *)(tcp + 1) > gale_data_end(ctx) || *(u8 *)ip >> 4 != 6)
		return -1;
	len = ntohs(ip->payload_len);
	p->family = GALE_FAMILY_IPV6;
	p->protocol = ip->nexthdr;
	p->ttl = ip->hop_limit;
	__builtin_memcpy(p->saddr, ip->saddr, 16);
	__builtin_memcpy(p->daddr, ip->daddr, 16);
	p->l3 = GALE_PLAIN_L3;
	p->l4 = GALE_PLAIN_L3 + sizeof(*ip);
	if (gale_plain_l4(p, tcp, len))
		return -1;
	return gale_plain_len(ctx, p, len + sizeof(*ip));
}
#endif

/* The packet's family if it may be plain; 0 = it is not. */
static __always_inline u32 gale_plain_family(GALE_CTX *ctx)
{
	struct gale_eth *eth = gale_data(ctx);
	u16 tci;

	if ((void *)(eth + 1) > gale_data_end(ctx) || gale_hw_tag(ctx, &tci))
		return 0;
	if (eth->type == htons(GALE_ETH_IPV4))
		return GALE_FAMILY_IPV4;
#ifdef GALE_IPV6
	if (eth->type == htons(GALE_ETH_IPV6))
		return GALE_FAMILY_IPV6;
#endif
	return 0;
}

#endif
