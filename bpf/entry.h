/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The entry program: parse, match, hand to the forwarder. */
#ifndef GALELB_ENTRY_H
#define GALELB_ENTRY_H

static __always_inline int gale_pass(struct gale_packet *p, u32 reason)
{
	if (unlikely(p->flags & GALE_FIRST_FRAGMENT))
		gale_fragment_note(p, NULL, NULL);
	return gale_exit(p, GALE_PASS, reason, 0, 0);
}

static __always_inline int gale_unparsable(GALE_CTX *ctx, struct gale_packet *p)
{
	p->l3 = 0;
	p->len = gale_linear_len(ctx);
	p->flags = 0;
	return gale_pass(p, GALE_REASON_PASS_UNPARSABLE);
}

/* A packet that could be read: to its service's forwarder, or back to a client, or on its way. */
static __always_inline int gale_parsed(GALE_CTX *ctx, struct gale_packet *p)
{
	struct gale_target target = {};
	int verdict;

	if (unlikely(p->flags & GALE_LATER_FRAGMENT)) {
		gale_hand_over(ctx, p, GALE_SLOW_FRAGMENT, 0);
	} else if (unlikely(p->flags & GALE_ICMP_ERROR)) {
		gale_hand_over(ctx, p, GALE_SLOW_ICMP, 0);
	} else if (p->protocol == GALE_IP_TCP || p->protocol == GALE_IP_UDP) {
		target.service_id = gale_service_find(p);
		if (target.service_id)
			return gale_dispatch(ctx, p, &target);
		verdict = gale_returns(ctx, p);
		if (verdict != GALE_NOT_MINE)
			return verdict;
	}
	return gale_pass(p, GALE_REASON_PASS_FOREIGN);
}

int GALE_FN(entry)(GALE_CTX *ctx)
{
	struct gale_packet packet = {}, *p = &packet;
	int answer = gale_parse(ctx, p);

	if (likely(!answer))
		return gale_parsed(ctx, p);
#ifdef GALE_IPV6
	if (answer == GALE_EXTENSIONS)
		gale_hand_over(ctx, p, GALE_SLOW_EXTENSIONS, 0);
#endif
	return gale_unparsable(ctx, p);
}

int GALE_FN(extensions)(GALE_CTX *ctx)
{
#ifdef GALE_IPV6
	struct gale_scratch *scratch = gale_scratch_get();
	struct gale_packet packet, *p = &packet;

	if (!scratch)
		return GALE_PASS;
	*p = scratch->packet;
	p->family = GALE_FAMILY_IPV6;
	p->l3 = GALE_L3(p);
	p->l4 = GALE_L4(p);
	if (gale_parse_extensions(ctx, p))
		return gale_unparsable(ctx, p);
	gale_hand_over(ctx, p, GALE_SLOW_PARSED, 0);
#endif
	return GALE_PASS;
}

/* Second half of the way of a packet with IPv6 extension headers. */
int GALE_FN(parsed)(GALE_CTX *ctx)
{
#ifdef GALE_IPV6
	struct gale_scratch *scratch = gale_scratch_get();
	struct gale_packet packet, *p = &packet;

	if (!scratch)
		return GALE_PASS;
	*p = scratch->packet;
	p->family = GALE_FAMILY_IPV6;
	return gale_parsed(ctx, p);
#else
	return GALE_PASS;
#endif
}

#ifdef GALE_TC
/* Answers that the kernel forwards itself: rewritten on their way out, all else untouched. */
int GALE_FN(egress)(GALE_CTX *ctx)
{
	struct gale_packet packet = {}, *p = &packet;
	int verdict = GALE_NOT_MINE;

	if (!gale_parse(ctx, p) && (p->protocol == GALE_IP_TCP || p->protocol == GALE_IP_UDP) &&
	    !(p->flags & GALE_LATER_FRAGMENT)) {
		p->flags |= GALE_EGRESS;
		verdict = gale_returns(ctx, p);
	}
	return verdict == GALE_NOT_MINE ? GALE_PASS : verdict;
}
#endif

#endif
