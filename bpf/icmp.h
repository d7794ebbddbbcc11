/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors: about a flow of ours they go to who sent the quoted packet, else they pass. */
#ifndef GALELB_ICMP_H
#define GALELB_ICMP_H

/* The service that the quoted packet came from, or 0. */
static __always_inline u32 gale_quote_service(struct gale_packet *p, struct gale_packet *q)
{
	struct gale_packet back = { .dport = q->sport, .vlan = p->vlan, .protocol = q->protocol };

	back.family = q->family;
	__builtin_memcpy(back.daddr, q->saddr, 4 * GALE_WORDS);
	return gale_service_find(&back);
}

int GALE_FN(icmp)(GALE_CTX *ctx)
{
	struct gale_scratch *scratch = gale_scratch_get();
	struct gale_packet packet, *p = &packet;
	struct gale_quote quote = {};
	int verdict;

	if (!scratch)
		return GALE_PASS;
	gale_take_over(scratch, p);
	/* who is told must be who is said to have sent it */
	if (!gale_quote_parse(ctx, p, &quote) && gale_same_address(p->daddr, quote.packet.saddr)) {
		verdict = gale_icmp(ctx, p, &quote, gale_quote_service(p, &quote.packet));
		if (verdict != GALE_NOT_MINE)
			return verdict;
	}
	return gale_exit(p, GALE_PASS, GALE_REASON_PASS_FOREIGN, 0, 0);
}

#endif
