/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The way out: TTL, MTU, rewriting, fragments; and the one exit, where everything is counted. */
#ifndef GALELB_SEND_H
#define GALELB_SEND_H

/*
 * Packets that are several (GSO, GRO) are cut when they leave. XDP sees none, and knows none: what it
 * redirects must fit, else the kernel drops it unseen (xdp_ok_fwd_dev).
 */
static __always_inline int gale_too_big(GALE_CTX *ctx, struct gale_packet *p, u32 mtu)
{
	return p->len > mtu && !gale_gso_size(ctx);
}

static __always_inline void gale_fragment_addresses(struct gale_packet *p, u32 *saddr, u32 *daddr,
						    u32 *from, u32 *to)
{
	__builtin_memset(saddr, 0, 16);
	__builtin_memset(daddr, 0, 16);
	__builtin_memcpy(saddr, from, 4 * GALE_WORDS);
	__builtin_memcpy(daddr, to, 4 * GALE_WORDS);
#ifdef GALE_IPV6
	if (p->family == GALE_FAMILY_IPV4) {
		saddr[1] = saddr[2] = saddr[3] = 0;
		daddr[1] = daddr[2] = daddr[3] = 0;
	}
#endif
}

static __always_inline void gale_fragment_fill_key(struct gale_packet *p,
						   struct gale_fragment_key *key)
{
	gale_fragment_addresses(p, key->saddr, key->daddr, p->saddr, p->daddr);
	key->id = p->fragment;
	key->protocol = p->family == GALE_FAMILY_IPV6 ? 0 : p->protocol;
	key->family = p->family;
	key->vlan = p->vlan;
}

static __always_inline u16 gale_tick(void)
{
	return bpf_jiffies64() >> GALE_TICK_SHIFT;
}

/* Remember what is done with a first fragment: it goes `way`, or is passed. */
static __always_inline void gale_fragment_note(struct gale_packet *p, struct gale_way *way,
					       int passed)
{
	struct gale_scratch *scratch = gale_scratch_get();
	struct gale_fragment *note;

	if (!scratch)
		return;
	note = &scratch->fragment;
	gale_fragment_fill_key(p, &scratch->key);
	__builtin_memset(note, 0, sizeof(*note));
	note->tick = gale_tick();
	note->passed = passed;
	if (!passed) {
		gale_fragment_addresses(p, note->saddr, note->daddr, way->rw.saddr, way->rw.daddr);
		note->hop = *way->hop;
		note->id = p->family == GALE_FAMILY_IPV6 ? way->rw.id6 : way->rw.id;
		note->service = way->service;
		note->node = way->node;
		note->vlan = way->vlan;
		note->outer = way->outer;
		note->seed = way->seed;
		note->ttl = way->rw.ttl;
	}
	gale_fragments.update(&scratch->key, note);
}

/* On the way out of the kernel's own forwarding: MACs and TTL are done. */
static __always_inline int gale_send_routed(GALE_CTX *ctx, struct gale_packet *p,
					    struct gale_way *way)
{
	way->rw.ttl = 0;
	way->rw.id6 = p->fragment;
	way->rw.id = p->fragment;
	if (gale_rewrite_packet(ctx, p, &way->rw))
		return gale_refuse(way, GALE_REASON_INTERNAL);
	return GALE_PASS;
}

#ifdef GALE_WRAP
/* Generated: hands the packet to the NAME_wrap of its service's forwarder. */
static __always_inline int gale_wrap(GALE_CTX *ctx, struct gale_packet *p, struct gale_way *way);
#endif

/* What is written into the packet itself. */
static __always_inline int gale_rewrite_kept(GALE_CTX *ctx, struct gale_packet *p,
					     struct gale_way *way)
{
	if (!way->kept)
		return gale_rewrite_packet(ctx, p, &way->rw);
	return way->rw.ttl ? gale_rewrite_ttl(ctx, p) : 0;
}

/* Write it all and send the frame off; below 0 when a helper fails. */
static __always_inline int gale_write(GALE_CTX *ctx, struct gale_packet *p, struct gale_way *way)
{
	if (gale_rewrite_kept(ctx, p, way))
		return -1;
#ifdef GALE_WRAP
	if (way->outer && gale_wrap(ctx, p, way))
		return -1;
#endif
	return gale_transmit(ctx, p, way->hop, way->vlan);
}

/* Rewrite the packet and send it its way. A verdict, GALE_REFUSE or GALE_LATER. */
static __always_inline int gale_send(GALE_CTX *ctx, struct gale_packet *p, struct gale_way *way)
{
	int verdict;
	u32 mtu;

	if (!way->hop)
		return gale_send_routed(ctx, p, way);
	gale_trace_hop(way->hop);
	mtu = way->hop->mtu - way->outer;
	if (unlikely(way->rw.ttl && p->ttl <= way->rw.ttl))
		return gale_reply(p, way, GALE_REPLY_TTL, 0, GALE_REASON_TTL_EXCEEDED);
	if (unlikely(gale_too_big(ctx, p, mtu)))
		return gale_reply(p, way, GALE_REPLY_TOO_BIG, mtu, GALE_REASON_TOO_BIG);
	if (unlikely(p->flags & GALE_FIRST_FRAGMENT)) {
		way->rw.id6 = way->kept ? p->fragment : bpf_get_prandom_u32();
		way->rw.id = way->rw.id6;
		gale_fragment_note(p, way, 0);
	}
	verdict = gale_write(ctx, p, way);
	return verdict < 0 ? gale_refuse(way, GALE_REASON_INTERNAL) : verdict;
}

/* Carry out what was decided, and count it. */
static __always_inline int gale_finish(GALE_CTX *ctx, struct gale_packet *p, struct gale_way *way,
				       int decided)
{
	if (decided == GALE_SEND)
		decided = gale_send(ctx, p, way);
	if (decided == GALE_LATER) {
		gale_hand_over(ctx, p, way);
		decided = gale_refuse(way, GALE_REASON_INTERNAL);
	}
	if (decided == GALE_NOT_MINE) {
		if (unlikely(p->flags & GALE_FIRST_FRAGMENT))
			gale_fragment_note(p, way, 1);
		way->service = 0;
		way->node = 0;
		decided = GALE_PASS;
	}
	if (decided == GALE_REFUSE) {
		way->node = 0;
		decided = GALE_DROP;
	}
	gale_capture_hop(way->hop);
	return gale_exit(ctx, p, decided, way->reason, way->service, way->node);
}

#endif
