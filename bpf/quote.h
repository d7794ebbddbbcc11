/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The packet that an ICMP error quotes, and translating both. */
#ifndef GALELB_QUOTE_H
#define GALELB_QUOTE_H

/* What was sent, as its sender saw it: `packet.daddr` is who never got it. */
struct gale_quote {
	struct gale_packet packet;	/* offsets are those in the frame */
	u32 check;			/* offset of the quoted L4 checksum; 0 = cut off or unused */
	u32 translate;			/* set by a forwarder: write it anew, by what it filled in */
};

static __always_inline int gale_quote_ipv4(GALE_CTX *ctx, struct gale_packet *q)
{
	struct gale_ipv4 ip;

	if (gale_load(ctx, q->l3, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return -1;
	if (ip.frag_off & htons(GALE_IP_OFFSET))
		return -1;
	q->family = GALE_FAMILY_IPV4;
	q->protocol = ip.protocol;
	q->saddr[0] = ip.saddr;
	q->daddr[0] = ip.daddr;
	q->l4 = q->l3 + ip.ihl * 4;
	return 0;
}

#ifdef GALE_IPV6
static __always_inline int gale_quote_ipv6(GALE_CTX *ctx, struct gale_packet *q)
{
	struct gale_ipv6_frag ext;
	struct gale_ipv6 ip;
	int i;

	if (gale_load(ctx, q->l3, &ip, sizeof(ip)))
		return -1;
	q->family = GALE_FAMILY_IPV6;
	q->protocol = ip.nexthdr;
	__builtin_memcpy(q->saddr, ip.saddr, 16);
	__builtin_memcpy(q->daddr, ip.daddr, 16);
	q->l4 = q->l3 + sizeof(ip);
	for (i = 0; i < GALE_MAX_EXTENSIONS; i++) {
		if (q->protocol != GALE_IP6_HOPOPTS && q->protocol != GALE_IP6_DSTOPTS &&
		    q->protocol != GALE_IP6_FRAGMENT && q->protocol != GALE_IP6_ROUTING)
			break;
		if (gale_load(ctx, q->l4, &ext, sizeof(ext)))
			return -1;
		if (q->protocol == GALE_IP6_FRAGMENT) {
			if (ext.offset & htons(GALE_IP6_OFFSET))
				return -1;
			q->l4 += sizeof(ext);
		} else {
			q->l4 += (ext.reserved + 1) * 8;	/* the length byte of the others */
		}
		q->protocol = ext.nexthdr;
	}
	return 0;
}
#endif

/* -1: it quotes nothing that we can read, or no TCP and no UDP. */
static __always_inline int gale_quote_parse(GALE_CTX *ctx, struct gale_packet *p,
					    struct gale_quote *quote)
{
	struct gale_packet *q = &quote->packet;
	u32 at = 0, ports = 0, end = p->l3 + p->len;
	u16 check = 0;

	q->l3 = p->l4 + sizeof(struct gale_icmp);
#ifdef GALE_IPV6
	if (p->family == GALE_FAMILY_IPV6) {
		if (gale_quote_ipv6(ctx, q))
			return -1;
	} else
#endif
	if (gale_quote_ipv4(ctx, q))
		return -1;
	if (q->l4 + 4 > end || gale_load(ctx, q->l4, &ports, sizeof(ports)))
		return -1;
	q->sport = ports;
	q->dport = ports >> 16;
	if (q->protocol == GALE_IP_TCP)
		at = q->l4 + offsetof(struct gale_tcp, check);
	else if (q->protocol == GALE_IP_UDP)
		at = q->l4 + offsetof(struct gale_udp, check);
	else
		return -1;
	if (at + sizeof(check) > end || gale_load(ctx, at, &check, sizeof(check)))
		return 0;
	if (check || q->protocol == GALE_IP_TCP)
		quote->check = at;
	return 0;
}

/* Replace one checksum in the quote; returns what that changes in the sum around it. */
static __always_inline u64 gale_quote_check(GALE_CTX *ctx, u32 at, u64 diff, int udp)
{
	u16 from = 0, to;

	gale_load(ctx, at, &from, sizeof(from));
	to = gale_csum_apply(from, diff);
	if (udp && !to)
		to = 0xffff;
	gale_store(ctx, at, &to, sizeof(to));
	return gale_sum_replace(0, from, to);
}

static __always_inline void gale_quote_addresses(GALE_CTX *ctx, struct gale_packet *q,
						 struct gale_rewrite *inner)
{
#ifdef GALE_IPV6
	if (q->family == GALE_FAMILY_IPV6) {
		gale_store(ctx, q->l3 + offsetof(struct gale_ipv6, saddr), inner->saddr, 16);
		gale_store(ctx, q->l3 + offsetof(struct gale_ipv6, daddr), inner->daddr, 16);
		return;
	}
#endif
	gale_store(ctx, q->l3 + offsetof(struct gale_ipv4, saddr), inner->saddr, 4);
	gale_store(ctx, q->l3 + offsetof(struct gale_ipv4, daddr), inner->daddr, 4);
}

/*
 * Write the quote anew by `inner`, and the ICMP checksum for that and for the outer addresses,
 * which gale_send() will change by `outer`.
 */
static __always_inline int gale_quote_translate(GALE_CTX *ctx, struct gale_packet *p,
						struct gale_quote *quote, struct gale_rewrite *inner,
						struct gale_rewrite *outer)
{
	struct gale_packet *q = &quote->packet;
	u32 from = gale_ports_word(q->sport, q->dport);
	u32 to = gale_ports_word(inner->sport, inner->dport);
	u64 addresses = gale_sum_addresses(q, inner), ports = gale_sum_replace(0, from, to);
	u64 icmp = addresses + ports;

	gale_quote_addresses(ctx, q, inner);
	if (gale_store(ctx, q->l4, &to, sizeof(to)))
		return -1;
	if (q->family == GALE_FAMILY_IPV4)
		icmp += gale_quote_check(ctx, q->l3 + offsetof(struct gale_ipv4, check), addresses, 0);
	else
		icmp += gale_sum_addresses(p, outer);
	if (quote->check)
		icmp += gale_quote_check(ctx, quote->check, addresses + ports,
					 q->protocol == GALE_IP_UDP);
	gale_quote_check(ctx, p->l4 + offsetof(struct gale_icmp, check), icmp, 0);
	return 0;
}

static __always_inline int gale_same_address(u32 *a, u32 *b)
{
#ifdef GALE_IPV6
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
#else
	return a[0] == b[0];
#endif
}

#endif
