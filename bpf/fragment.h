/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Later fragments: they have no ports and follow the first one of their datagram. */
#ifndef GALELB_FRAGMENT_H
#define GALELB_FRAGMENT_H

static __always_inline int gale_fragment_follow(GALE_CTX *ctx, struct gale_packet *p,
						struct gale_fragment *note)
{
	struct gale_rewrite rw = { .ttl = note->ttl, .id = note->id, .id6 = note->id };
	struct gale_way way = { .hop = &note->hop, .service = note->service, .node = note->node };

	way.reason = GALE_REASON_FRAGMENT_FOLLOWED;
	way.vlan = note->vlan;
	__builtin_memcpy(rw.saddr, note->saddr, 4 * GALE_WORDS);
	__builtin_memcpy(rw.daddr, note->daddr, 4 * GALE_WORDS);
	return gale_send(ctx, p, &rw, &way, p->daddr);
}

int GALE_FN(fragment)(GALE_CTX *ctx)
{
	struct gale_scratch *scratch = gale_scratch_get();
	struct gale_fragment *note;
	struct gale_packet *p;
	u32 service;

	if (!scratch)
		return GALE_PASS;
	p = &scratch->packet;
	gale_fragment_fill_key(p, &scratch->key);
	note = gale_fragments.lookup(&scratch->key);
	if (note && (u16)(gale_tick() - note->tick) <= GALE_FRAGMENT_TICKS) {
		if (!note->passed)
			return gale_fragment_follow(ctx, p, note);
	} else {
		service = gale_service_has(p);
		if (service)
			return gale_drop(p, GALE_REASON_FRAGMENT_UNKNOWN, service);
	}
	return gale_exit(p, GALE_PASS, GALE_REASON_PASS_FOREIGN, 0, 0);
}

#endif
