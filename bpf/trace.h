/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The steps of one packet, for `galelb trace`. Without GALE_TRACE nothing of it is compiled in. */
#ifndef GALELB_TRACE_H
#define GALELB_TRACE_H

#ifdef GALE_TRACE
#define GALE_TRACE_STEPS	32	/* kept; more are only counted */

/* A step: GALE_STEP_*, and its values as galelb/trace/steps.py reads them. */
struct gale_trace_step {
	u32 what;
	u32 value[5];
};

struct gale_trace {
	u32 count;		/* steps taken; set to 0 before each packet */
	u32 random;		/* random numbers given so far */
	struct gale_packet packet;	/* as it was parsed last */
	struct gale_trace_step steps[GALE_TRACE_STEPS];
};

/* the record; one for all CPUs, since nobody but `galelb trace` runs these programs */
GALE_MAP("array", u32, struct gale_trace, gale_trace, 1, BPF_F_MMAPABLE)

static __always_inline struct gale_trace *gale_trace_get(void)
{
	u32 zero = 0;

	return gale_trace.lookup(&zero);
}

static __always_inline void gale_trace_note(u32 what, u32 a, u32 b, u32 c, u32 d, u32 e)
{
	struct gale_trace *trace = gale_trace_get();
	struct gale_trace_step *step;
	u32 at;

	if (!trace)
		return;
	at = trace->count++;
	if (at >= GALE_TRACE_STEPS)
		return;
	step = &trace->steps[at];
	step->what = what;
	step->value[0] = a;
	step->value[1] = b;
	step->value[2] = c;
	step->value[3] = d;
	step->value[4] = e;
}

static __always_inline void gale_trace_parsed(struct gale_packet *p, int result)
{
	struct gale_trace *trace = gale_trace_get();

	if (trace)
		trace->packet = *p;
	gale_trace_note(GALE_STEP_PARSED, result, 0, 0, 0, 0);
}

/* A frame's way out. MAC addresses lie side by side, as they lie in the next hop. */
static __always_inline void gale_trace_hop(struct gale_next_hop *hop)
{
	u32 mac[3];

	__builtin_memcpy(mac, hop->dst, sizeof(mac));
	gale_trace_note(GALE_STEP_NEXT_HOP, hop->ifindex, hop->mtu, mac[0], mac[1], mac[2]);
}

static __always_inline int gale_trace_redirect(u32 ifindex, u64 flags)
{
	gale_trace_note(GALE_STEP_REDIRECT, ifindex, 0, 0, 0, 0);
	return bpf_redirect(ifindex, flags);
}

/* Traces of one file shall be the same each time. */
static __always_inline u32 gale_trace_random(void)
{
	struct gale_trace *trace = gale_trace_get();

	return trace ? ++trace->random * 0x9e3779b1U : 0;
}

#define bpf_redirect(ifindex, flags)	gale_trace_redirect(ifindex, flags)
#define bpf_get_prandom_u32()		gale_trace_random()

/* The lookup table was asked: node 0 = it names none, or the service has none. */
static __always_inline void gale_trace_slot(u32 hash, u32 slot, u32 table, u32 node)
{
	gale_trace_note(GALE_STEP_SLOT, hash, slot, table, node, 0);
}

static __always_inline void gale_trace_exit(u32 verdict, u32 reason, u32 service, u32 node)
{
	gale_trace_note(GALE_STEP_EXIT, verdict, reason, service, node, 0);
}

/* One number: GALE_STEP_SERVICE, _QUOTED, _PROGRAM, _FLOW and such. */
static __always_inline void gale_trace_step(u32 what, u32 value)
{
	gale_trace_note(what, value, 0, 0, 0, 0);
}

#else	/* no code at all: even an empty function or loop can change what clang makes of the rest */

#define gale_trace_note(what, a, b, c, d, e)
#define gale_trace_parsed(p, result)
#define gale_trace_hop(hop)
#define gale_trace_slot(hash, slot, table, node)
#define gale_trace_exit(verdict, reason, service, node)
#define gale_trace_step(what, value)

#endif

#endif
