/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* New addresses, ports, TTL and identification, and what they do to checksums. */
#ifndef GALELB_REWRITE_H
#define GALELB_REWRITE_H

static __always_inline u32 gale_ports_word(__be16 sport, __be16 dport)
{
	return sport | (u32)dport << 16;
}

/* What new addresses change in a sum. */
static __always_inline u64 gale_sum_addresses(struct gale_packet *p, struct gale_rewrite *rw)
{
	u64 sum = gale_sum_replace(0, p->saddr[0], rw->saddr[0]);

	sum = gale_sum_replace(sum, p->daddr[0], rw->daddr[0]);
#ifdef GALE_IPV6
	if (p->family == GALE_FAMILY_IPV6) {
		sum = gale_sum_replace(sum, p->saddr[1], rw->saddr[1]);
		sum = gale_sum_replace(sum, p->saddr[2], rw->saddr[2]);
		sum = gale_sum_replace(sum, p->saddr[3], rw->saddr[3]);
		sum = gale_sum_replace(sum, p->daddr[1], rw->daddr[1]);
		sum = gale_sum_replace(sum, p->daddr[2], rw->daddr[2]);
		sum = gale_sum_replace(sum, p->daddr[3], rw->daddr[3]);
	}
#endif
	return sum;
}

#endif
