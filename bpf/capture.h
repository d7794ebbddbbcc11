/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copies of frames as they came and as they left, for `galelb capture`; nothing otherwise. */
#ifndef GALELB_CAPTURE_H
#define GALELB_CAPTURE_H

#ifdef GALE_CAPTURE

#define GALE_CAPTURE_SNAP	9216	/* at most so many bytes of a frame; twice that fits per CPU */
#define GALE_CAPTURE_BYTES	(1 << 22)
#define GALE_CAPTURE_TAGGED	0x10000	/* with the TCI of a tag that lies outside the frame's data */

/* What is wanted; written by the control plane. */
struct gale_capture_wish {
	u64 until;		/* CLOCK_MONOTONIC, ns: a control plane that died extends it no more */
	u32 service;		/* id; 0 = any */
	u32 node;		/* index; 0 = any */
	u32 addr[4];		/* of that node, whose answers name no node */
	u32 family;
	u32 snap;		/* bytes of each frame */
	u32 rate;		/* packets of one CPU per second */
	u32 flags;		/* GALE_CAPTURE_* of galelb/abi.py */
};

/* A packet; behind it lie in_kept bytes of the frame that came and out_kept of what became of it. */
struct gale_capture_record {
	u64 time;		/* CLOCK_MONOTONIC, ns; 0 = the packet is not looked at */
	u32 verdict;
	u32 tc;			/* 1 = the verdict is one of TC, else of XDP */
	u32 reason;
	u32 service;		/* id; 0 = none */
	u32 node;		/* index; 0 = none */
	u32 in;			/* interface */
	u32 out;		/* interface; 0 = where it came from */
	u32 in_len;		/* of the whole frame */
	u32 out_len;
	u32 in_kept;
	u32 out_kept;
	u32 in_tag;		/* GALE_CAPTURE_TAGGED and TCI, or 0 */
	u32 out_tag;
	u32 egress;		/* 1 = the kernel was about to send it */
};

struct gale_capture_room {
	u64 at;			/* token bucket */
	u32 tokens;
	u32 pad;
	struct gale_capture_record record;
	u8 frames[2 * GALE_CAPTURE_SNAP];
};

/* Packets that were wanted and not captured. */
struct gale_capture_lost {
	u64 full;		/* nobody made room in the ring buffer in time */
	u64 limited;		/* more than wish.rate */
};

/* one element */
GALE_MAP("array", u32, struct gale_capture_wish, gale_capture_wish, 1, 0)
/* room for one packet; lives from its entry to its exit, across tail calls */
GALE_MAP("percpu_array", u32, struct gale_capture_room, gale_capture_room, 1, 0)
GALE_MAP("percpu_array", u32, struct gale_capture_lost, gale_capture_lost, 1, 0)
/* records; size in bytes */
GALE_MAP("ringbuf", u32, struct gale_capture_record, gale_capture, GALE_CAPTURE_BYTES, 0)

static __always_inline int gale_allowed(u64 *at, u32 *tokens, u32 rate);

/* The frame's first bytes, at most `snap`; returns how many. */
static __always_inline u64 gale_capture_copy(GALE_CTX *ctx, u8 *to, u32 snap, u32 *tag)
{
	u64 len = gale_frame_len(ctx);
	u16 tci = 0;

	*tag = 0;
	if (gale_hw_tag(ctx, &tci))
		*tag = GALE_CAPTURE_TAGGED | tci;
	if (len > snap)
		len = snap;
	GALE_OPAQUE(len);
	if (len < sizeof(struct gale_eth) || len > GALE_CAPTURE_SNAP)
		return 0;
	return gale_load(ctx, 0, to, len) ? 0 : len;
}

/* At the start of an entry program, before anything is changed. */
static __always_inline void gale_capture_in(GALE_CTX *ctx)
{
	u32 zero = 0;
	struct gale_capture_wish *wish = gale_capture_wish.lookup(&zero);
	struct gale_capture_room *room = gale_capture_room.lookup(&zero);
	struct gale_capture_record *record;
	u64 now = bpf_ktime_get_ns();

	if (!wish || !room)
		return;
	record = &room->record;
	record->time = now < wish->until ? now : 0;
	if (!record->time)
		return;
	record->in = gale_ifindex(ctx);
	record->out = 0;
	record->in_len = gale_frame_len(ctx);
	record->in_kept = gale_capture_copy(ctx, room->frames, wish->snap, &record->in_tag);
}

/* The next hop is known. */
static __always_inline void gale_capture_hop(struct gale_next_hop *hop)
{
	u32 zero = 0;
	struct gale_capture_room *room = gale_capture_room.lookup(&zero);

	if (room && hop)
		room->record.out = hop->ifindex;
}

static __always_inline int gale_capture_wants(struct gale_capture_wish *wish, struct gale_packet *p,
					      int verdict, u32 service, u32 node)
{
	if (wish->flags & GALE_CAPTURE_DROPPED && verdict != GALE_DROP)
		return 0;
	if (!(service || verdict == GALE_DROP || wish->flags & GALE_CAPTURE_FOREIGN))
		return 0;
	if (wish->service && wish->service != service)
		return 0;
	if (!wish->node || wish->node == node)
		return 1;
	if (wish->family != p->family || wish->addr[0] != p->saddr[0])
		return 0;
#ifdef GALE_IPV6
	if (p->family == GALE_FAMILY_IPV6)
		return wish->addr[1] == p->saddr[1] && wish->addr[2] == p->saddr[2] &&
		       wish->addr[3] == p->saddr[3];
#endif
	return 1;
}

/* Whether the frame is something else now, or goes on from here. */
static __always_inline int gale_capture_leaves(struct gale_packet *p, int verdict)
{
	if (verdict == GALE_PASS)
		return p->flags & GALE_EGRESS;
	return verdict != GALE_DROP;
}

/* Hand the copies over, the frame as it is now among them. */
static __always_inline void gale_capture_write(GALE_CTX *ctx, struct gale_packet *p,
					       struct gale_capture_room *room, u32 snap)
{
	struct gale_capture_record *record = &room->record;
	u64 size = record->in_kept, kept = 0;

	GALE_OPAQUE(size);
	if (size > GALE_CAPTURE_SNAP)
		return;
	record->out_len = 0;
	record->out_tag = 0;
	if (gale_capture_leaves(p, record->verdict)) {
		record->out_len = gale_frame_len(ctx);
		kept = gale_capture_copy(ctx, room->frames + size, snap, &record->out_tag);
	}
	record->out_kept = kept;
	size += kept + sizeof(*record);
	if (gale_capture.ringbuf_output(record, size, 0)) {
		u32 zero = 0;
		struct gale_capture_lost *lost = gale_capture_lost.lookup(&zero);

		if (lost)
			lost->full++;
	}
}

/* At the one exit, when the frame is as it leaves. */
static __always_inline void gale_capture_out(GALE_CTX *ctx, struct gale_packet *p, int verdict,
					     u32 reason, u32 service, u32 node)
{
	u32 zero = 0;
	struct gale_capture_wish *wish = gale_capture_wish.lookup(&zero);
	struct gale_capture_room *room = gale_capture_room.lookup(&zero);
	struct gale_capture_lost *lost = gale_capture_lost.lookup(&zero);

	if (!wish || !room || !lost || !room->record.time)
		return;
	if (!gale_capture_wants(wish, p, verdict, service, node))
		return;
	if (!gale_allowed(&room->at, &room->tokens, wish->rate)) {
		lost->limited++;
		return;
	}
#ifdef GALE_TC
	room->record.tc = 1;
#else
	room->record.tc = 0;
#endif
	room->record.egress = !!(p->flags & GALE_EGRESS);
	room->record.verdict = verdict;
	room->record.reason = reason;
	room->record.service = service;
	room->record.node = node;
	gale_capture_write(ctx, p, room, wish->snap);
}

#else

static __always_inline void gale_capture_in(GALE_CTX *ctx)
{
}

static __always_inline void gale_capture_hop(struct gale_next_hop *hop)
{
}

static __always_inline void gale_capture_out(GALE_CTX *ctx, struct gale_packet *p, int verdict,
					     u32 reason, u32 service, u32 node)
{
}

#endif

#endif
