/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What shall become of a packet: filled in by forwarders, carried out once by gale_finish(). */
#ifndef GALELB_WAY_H
#define GALELB_WAY_H

/* What functions that decide about a packet return. */
#define GALE_NOT_MINE		(-1)	/* it is passed, unless somebody else claims it */
#define GALE_SEND		(-2)	/* rewritten and sent: way->rw, way->hop */
#define GALE_REFUSE		(-3)	/* dropped: way->reason */
#define GALE_LATER		(-4)	/* handed to another program: way->program */

struct gale_way {
	struct gale_rewrite rw;
	struct gale_next_hop *hop;	/* NULL = the kernel has routed it */
	u32 *addr;		/* what messages of ours to its sender come from; NULL = its target */
	u32 service;		/* id; 0 = none */
	u32 node;		/* index, or 0 when it goes to a client */
	u32 reason;		/* how it is counted */
	u32 program;		/* GALE_SLOW_* */
	u16 vlan;		/* tag to push when it leaves untagged by another interface */
	u16 kept;		/* 1 = addresses, ports and identification stay as they are */
	u16 outer;		/* bytes that NAME_wrap puts before the packet; 0 = it is not wrapped */
	u32 seed;		/* the same for all packets of a flow, for what these bytes shall hold */
};

static __always_inline int gale_refuse(struct gale_way *way, u32 reason)
{
	way->reason = reason;
	return GALE_REFUSE;
}

static __always_inline int gale_later(struct gale_way *way, u32 program)
{
	way->program = program;
	return GALE_LATER;
}

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
static __always_inline void gale_take_over(struct gale_scratch *scratch, struct gale_packet *p,
					   struct gale_way *way)
{
	*p = scratch->packet;
	p->family = gale_family(p->family);
	way->service = scratch->service;
}

/* Go on in another program, which finds the packet in its CPU's scratch. Returns only on failure. */
static __always_inline void gale_hand_over(GALE_CTX *ctx, struct gale_packet *p,
					   struct gale_way *way)
{
	struct gale_scratch *scratch = gale_scratch_get();

	if (!scratch)
		return;
	scratch->packet = *p;
	scratch->service = way->service;
	gale_tail(ctx, way->program);
}

/* Have GALE_SLOW_REPLY send a message to the sender, if it may; `reason` counts when not. */
static __always_inline int gale_reply(struct gale_packet *p, struct gale_way *way, u32 kind,
				      u32 mtu, u32 reason)
{
	struct gale_scratch *scratch = gale_scratch_get();

	if (p->flags & (GALE_LATER_FRAGMENT | GALE_ICMP_ERROR) ||	/* RFC 1122, 3.2.2 */
	    !scratch || !gale_allowed(&scratch->reply_at, &scratch->replies, GALE_ICMP_RATE))
		return gale_refuse(way, reason);
	gale_trace_note(GALE_STEP_REPLY, kind, mtu, 0, 0, 0);
	scratch->kind = kind;
	scratch->mtu = mtu;
	__builtin_memcpy(scratch->addr, p->daddr, 4 * GALE_WORDS);
	if (way->addr)
		__builtin_memcpy(scratch->addr, way->addr, 4 * GALE_WORDS);
	return gale_later(way, GALE_SLOW_REPLY);
}

#endif
