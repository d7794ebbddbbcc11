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

static __always_inline int gale_icmp_decide(GALE_CTX *ctx, struct gale_packet *p,
					    struct gale_scratch *scratch, struct gale_way *way)
{
	struct gale_quote quote = {};
	int decided;

	if (gale_quote_parse(ctx, p, &quote))
		return GALE_NOT_MINE;
	/* who is told must be who is said to have sent it */
	if (!gale_same_address(p->daddr, quote.packet.saddr))
		return GALE_NOT_MINE;
	way->service = gale_quote_service(p, &quote.packet);
	gale_trace_step(GALE_STEP_QUOTED, way->service);
	way->reason = GALE_REASON_ICMP_TRANSLATED;
	decided = gale_icmp(ctx, p, &quote, &scratch->inner, way);
	if (decided == GALE_SEND && quote.translate &&
	    gale_quote_translate(ctx, p, &quote, &scratch->inner, &way->rw))
		return gale_refuse(way, GALE_REASON_INTERNAL);
	return decided;
}

int GALE_FN(icmp)(GALE_CTX *ctx)
{
	struct gale_scratch *scratch = gale_scratch_get();
	struct gale_packet packet;
	struct gale_way way = {};
	int decided;

	if (!scratch)
		return GALE_PASS;
	gale_take_over(scratch, &packet, &way);
	decided = gale_icmp_decide(ctx, &packet, scratch, &way);
	if (decided == GALE_NOT_MINE)
		way.reason = GALE_REASON_PASS_FOREIGN;
	return gale_finish(ctx, &packet, &way, decided);
}

#endif
