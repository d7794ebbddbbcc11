/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The way out of a packet that has a next hop: TTL, MTU, rewriting, fragments, counting. */
#ifndef GALELB_SEND_H
#define GALELB_SEND_H

/* Where a packet goes, and how it is counted. */
struct gale_way {
	struct gale_next_hop *hop;	/* NULL = the kernel has routed it */
	u32 service;		/* id */
	u32 node;		/* index, or 0 when it goes to a client */
	u32 reason;
	u16 vlan;		/* tag to push when it leaves untagged by another interface */
};

/* A family that was read from somewhere, as a constant of a branch: the verifier mixes none. */
static __always_inline u32 gale_family(u32 from)
{
	u64 family = GALE_FAMILY_IPV4;

#ifdef GALE_IPV6
	if (from == GALE_FAMILY_IPV6)
		family = GALE_FAMILY_IPV6;
	GALE_OPAQUE(family);
#endif
	return family;
}

/*
 * The packet that was handed over, on the stack: the verifier knows what it has seen of it there.
 */
static __always_inline void gale_take_over(struct gale_scratch *scratch, struct gale_packet *p)
{
	*p = scratch->packet;
	p->family = gale_family(p->family);
}

/* Go on in another program, which finds the packet in its CPU's scratch. Returns only on failure. */
static __always_inline void gale_hand_over(GALE_CTX *ctx, struct gale_packet *p, u32 program,
					   u32 service)
{
	struct gale_scratch *scratch = gale_scratch_get();

	if (!scratch)
		return;
	scratch->packet = *p;
	scratch->service = service;
	gale_tail(ctx, program);
}

/* Ask GALE_SLOW_REPLY for a message to the sender, from `addr`; returns the verdict if it may not. */
static __always_inline int gale_reply(GALE_CTX *ctx, struct gale_packet *p, u32 kind, u32 mtu,
				      u32 *addr, u32 service, u32 reason)
{
	struct gale_scratch *scratch = gale_scratch_get();

	if (p->flags & (GALE_LATER_FRAGMENT | GALE_ICMP_ERROR))	/* RFC 1122, 3.2.2 */
		return gale_drop(p, reason, service);
	if (scratch && gale_allowed(&scratch->reply_at, &scratch->replies, GALE_ICMP_RATE)) {
		scratch->kind = kind;
		scratch->mtu = mtu;
		__builtin_memcpy(scratch->addr, addr, 4 * GALE_WORDS);
		gale_hand_over(ctx, p, GALE_SLOW_REPLY, service);
	}
	return gale_drop(p, reason, service);
}

/* Frames longer than any wire's MTU were merged on receipt (GRO) and will be cut again. */
static __always_inline int gale_too_big(GALE_CTX *ctx, struct gale_packet *p, u32 mtu)
{
	return p->len > mtu && p->len <= GALE_WIRE_MTU && !gale_gso_size(ctx);
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
	key->pad = 0;
}

static __always_inline u16 gale_tick(void)
{
	return bpf_jiffies64() >> GALE_TICK_SHIFT;
}

/* Remember what is done with a first fragment; `way` NULL = it is passed. */
static __always_inline void gale_fragment_note(struct gale_packet *p, struct gale_rewrite *rw,
					       struct gale_way *way)
{
	struct gale_scratch *scratch = gale_scratch_get();
	struct gale_fragment *note;

	if (!scratch)
		return;
	note = &scratch->fragment;
	gale_fragment_fill_key(p, &scratch->key);
	__builtin_memset(note, 0, sizeof(*note));
	note->tick = gale_tick();
	note->passed = !way;
	if (way) {
		gale_fragment_addresses(p, note->saddr, note->daddr, rw->saddr, rw->daddr);
		note->hop = *way->hop;
		note->id = p->family == GALE_FAMILY_IPV6 ? rw->id6 : rw->id;
		note->service = way->service;
		note->node = way->node;
		note->vlan = way->vlan;
		note->ttl = rw->ttl;
	}
	gale_fragments.update(&scratch->key, note);
}

/* On the way out of the kernel's own forwarding: MACs and TTL are done. */
static __always_inline int gale_send_routed(GALE_CTX *ctx, struct gale_packet *p,
					    struct gale_rewrite *rw, struct gale_way *way)
{
	rw->ttl = 0;
	rw->id6 = p->fragment;
	rw->id = rw->id6;
	if (gale_rewrite_packet(ctx, p, rw))
		return gale_drop(p, GALE_REASON_INTERNAL, way->service);
	return gale_exit(p, GALE_PASS, way->reason, way->service, way->node);
}

/* Rewrite the packet and send it its way. `addr` is what messages of ours to its sender come from. */
static __always_inline int gale_send(GALE_CTX *ctx, struct gale_packet *p, struct gale_rewrite *rw,
				     struct gale_way *way, u32 *addr)
{
	int verdict;

	if (!way->hop)
		return gale_send_routed(ctx, p, rw, way);
	if (unlikely(p->ttl <= rw->ttl))
		return gale_reply(ctx, p, GALE_REPLY_TTL, 0, addr, way->service,
				  GALE_REASON_TTL_EXCEEDED);
	if (unlikely(gale_too_big(ctx, p, way->hop->mtu)))
		return gale_reply(ctx, p, GALE_REPLY_TOO_BIG, way->hop->mtu, addr, way->service,
				  GALE_REASON_TOO_BIG);
	if (unlikely(p->flags & GALE_FIRST_FRAGMENT)) {
		rw->id6 = bpf_get_prandom_u32();
		rw->id = rw->id6;
		gale_fragment_note(p, rw, way);
	}
	if (gale_rewrite_packet(ctx, p, rw))
		return gale_drop(p, GALE_REASON_INTERNAL, way->service);
	verdict = gale_transmit(ctx, p, way->hop, way->vlan);
	if (verdict < 0)
		return gale_drop(p, GALE_REASON_INTERNAL, way->service);
	return gale_exit(p, verdict, way->reason, way->service, way->node);
}

#endif
