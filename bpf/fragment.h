/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Later fragments: they have no ports and follow the first one of their datagram. */
#ifndef GALELB_FRAGMENT_H
#define GALELB_FRAGMENT_H

/* Whether the node that fragments are wrapped for is still there. */
static __always_inline int gale_fragment_has_end(struct gale_fragment *note)
{
#ifdef GALE_WRAP
	return !note->outer || gale_node_get(note->node);
#else
	return 1;
#endif
}

static __always_inline int gale_fragment_follow(struct gale_fragment *note, struct gale_way *way)
{
	__builtin_memcpy(way->rw.saddr, note->saddr, 4 * GALE_WORDS);
	__builtin_memcpy(way->rw.daddr, note->daddr, 4 * GALE_WORDS);
	way->rw.ttl = note->ttl;
	way->rw.id = note->id;
	way->rw.id6 = note->id;
	way->hop = &note->hop;
	way->outer = note->outer;
	way->seed = note->seed;
	way->service = note->service;
	way->node = note->node;
	way->vlan = note->vlan;
	way->reason = GALE_REASON_FRAGMENT_FOLLOWED;
	return gale_fragment_has_end(note) ? GALE_SEND : gale_refuse(way, GALE_REASON_NODE_GONE);
}

static __always_inline int gale_fragment_decide(struct gale_scratch *scratch, struct gale_packet *p,
						struct gale_way *way)
{
	struct gale_fragment *note;

	gale_fragment_fill_key(p, &scratch->key);
	note = gale_fragments.lookup(&scratch->key);
	if (note && (u16)(gale_tick() - note->tick) <= GALE_FRAGMENT_TICKS)
		return note->passed ? GALE_NOT_MINE : gale_fragment_follow(note, way);
	way->service = gale_service_has(p);
	return way->service ? gale_refuse(way, GALE_REASON_FRAGMENT_UNKNOWN) : GALE_NOT_MINE;
}

int GALE_FN(fragment)(GALE_CTX *ctx)
{
	struct gale_scratch *scratch = gale_scratch_get();
	struct gale_packet packet;
	struct gale_way way = {};

	if (!scratch)
		return GALE_PASS;
	gale_take_over(scratch, &packet, &way);
	return gale_finish(ctx, &packet, &way, gale_fragment_decide(scratch, &packet, &way));
}

#endif
