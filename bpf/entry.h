/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The entry programs: parse, match, hand to the forwarder, finish. */
#ifndef GALELB_ENTRY_H
#define GALELB_ENTRY_H

/* A packet with ports: to its service's forwarder, or back to a client, or on its way. */
static __always_inline int gale_decide_plain(GALE_CTX *ctx, struct gale_packet *p,
					     struct gale_way *way)
{
	way->service = gale_service_find(p);
	gale_trace_step(GALE_STEP_SERVICE, way->service);
	return way->service ? gale_dispatch(ctx, p, way) : gale_returns(ctx, p, way);
}

/* A packet that could be read. */
static __always_inline int gale_decide(GALE_CTX *ctx, struct gale_packet *p, struct gale_way *way)
{
	if (unlikely(p->tags > 1))
		return GALE_NOT_MINE;	/* no service is behind two tags, so no flow either */
	if (unlikely(p->flags & GALE_LATER_FRAGMENT))
		return gale_later(way, GALE_SLOW_FRAGMENT);
	if (unlikely(p->flags & GALE_ICMP_ERROR))
		return gale_later(way, GALE_SLOW_ICMP);
	if (p->protocol != GALE_IP_TCP && p->protocol != GALE_IP_UDP)
		return GALE_NOT_MINE;
	return gale_decide_plain(ctx, p, way);
}

/* Nothing of it is known but its size. */
static __always_inline int gale_unparsable(GALE_CTX *ctx, struct gale_packet *p,
					   struct gale_way *way)
{
	p->l3 = 0;
	p->len = gale_linear_len(ctx);
	p->flags = 0;
	way->reason = GALE_REASON_PASS_UNPARSABLE;
	return GALE_NOT_MINE;
}

static __always_inline int gale_carry(GALE_CTX *ctx, struct gale_packet *p, struct gale_way *way)
{
	gale_trace_parsed(p, 0);
	if (unlikely(gale_is_others(ctx)))
		return gale_finish(ctx, p, way, GALE_NOT_MINE);
	return gale_finish(ctx, p, way, gale_decide_plain(ctx, p, way));
}

/* One way per family: in each the family is a constant too. */
int GALE_FN(entry)(GALE_CTX *ctx)
{
	struct gale_packet packet = {}, *p = &packet;
	struct gale_way way = {};
	u32 family;

	gale_capture_in(ctx);
	gale_pull(ctx);
	family = gale_plain_family(ctx);
	if (likely(family == GALE_FAMILY_IPV4)) {
		if (likely(!gale_plain_ipv4(ctx, p)))
			return gale_carry(ctx, p, &way);
	}
#ifdef GALE_IPV6
	else if (family == GALE_FAMILY_IPV6) {
		if (likely(!gale_plain_ipv6(ctx, p)))
			return gale_carry(ctx, p, &way);
	}
#endif
	gale_tail(ctx, GALE_SLOW_GENERAL);
	return gale_exit(ctx, p, GALE_DROP, GALE_REASON_INTERNAL, 0, 0);
}

/* Every other packet. */
int GALE_FN(general)(GALE_CTX *ctx)
{
	struct gale_packet packet = {}, *p = &packet;
	struct gale_way way = {};
	int decided;

	decided = gale_parse(ctx, p);
	gale_trace_parsed(p, decided);
	if (unlikely(gale_is_others(ctx)))
		decided = decided && decided != GALE_EXTENSIONS ? gale_unparsable(ctx, p, &way)
								: GALE_NOT_MINE;
	else if (likely(!decided))
		decided = gale_decide(ctx, p, &way);
#ifdef GALE_IPV6
	else if (decided == GALE_EXTENSIONS)
		decided = gale_later(&way, GALE_SLOW_EXTENSIONS);
#endif
	else
		decided = gale_unparsable(ctx, p, &way);
	return gale_finish(ctx, p, &way, decided);
}

/* A packet with IPv6 extension headers: walk them, and go on in GALE_SLOW_PARSED. */
int GALE_FN(extensions)(GALE_CTX *ctx)
{
#ifdef GALE_IPV6
	struct gale_scratch *scratch = gale_scratch_get();
	struct gale_packet packet, *p = &packet;
	struct gale_way way = {};
	int decided;

	if (!scratch)
		return GALE_PASS;
	*p = scratch->packet;
	p->family = GALE_FAMILY_IPV6;
	p->l3 = GALE_L3(p);
	p->l4 = GALE_L4(p);
	decided = gale_parse_extensions(ctx, p);
	gale_trace_parsed(p, decided);
	if (decided)
		decided = gale_unparsable(ctx, p, &way);
	else
		decided = gale_later(&way, GALE_SLOW_PARSED);
	return gale_finish(ctx, p, &way, decided);
#else
	return GALE_PASS;
#endif
}

#ifdef GALE_IPV6
/* The end of gale_decide, for a packet that is slow already. */
static __always_inline int gale_decide_slow(GALE_CTX *ctx, struct gale_packet *p,
					    struct gale_way *way)
{
	way->service = gale_service_find(p);
	gale_trace_step(GALE_STEP_SERVICE, way->service);
	return way->service ? gale_dispatch_slow(ctx, p, way) : gale_returns_slow(ctx, p, way);
}
#endif

int GALE_FN(parsed)(GALE_CTX *ctx)
{
#ifdef GALE_IPV6
	struct gale_scratch *scratch = gale_scratch_get();
	struct gale_packet packet, *p = &packet;
	struct gale_way way = {};
	int decided;

	if (!scratch)
		return GALE_PASS;
	*p = scratch->packet;
	p->family = GALE_FAMILY_IPV6;
	if (p->tags > 1)
		decided = GALE_NOT_MINE;
	else if (p->flags & GALE_LATER_FRAGMENT)
		decided = gale_later(&way, GALE_SLOW_FRAGMENT);
	else if (p->flags & GALE_ICMP_ERROR)
		decided = gale_later(&way, GALE_SLOW_ICMP);
	else if (p->protocol != GALE_IP_TCP && p->protocol != GALE_IP_UDP)
		decided = GALE_NOT_MINE;
	else
		decided = gale_decide_slow(ctx, p, &way);
	return gale_finish(ctx, p, &way, decided);
#else
	return GALE_PASS;
#endif
}

#ifdef GALE_TC
/* Answers that the kernel forwards itself: rewritten on their way out, all else untouched. */
int GALE_FN(egress)(GALE_CTX *ctx)
{
	struct gale_packet packet = {}, *p = &packet;
	struct gale_way way = {};

	gale_capture_in(ctx);
	if (gale_parse(ctx, p) || p->flags & GALE_LATER_FRAGMENT ||
	    (p->protocol != GALE_IP_TCP && p->protocol != GALE_IP_UDP))
		return GALE_PASS;
	p->flags |= GALE_EGRESS;
	if (gale_returns(ctx, p, &way) != GALE_SEND || gale_send_routed(ctx, p, &way) != GALE_PASS)
		return GALE_PASS;
	return gale_exit(ctx, p, GALE_PASS, way.reason, way.service, way.node);
}
#endif

#endif
