/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* l4_nat_import: a helper program that takes in flows known from elsewhere, by the rules of packets. */
#ifndef GALELB_L4_NAT_IMPORT_H
#define GALELB_L4_NAT_IMPORT_H
#ifdef GALE_TC
int GALE_FN(l4_nat_import_one)(GALE_CTX *ctx)
{
	return GALE_DROP;	/* flows are taken in by XDP programs only */
}
#else

#define L4_NAT_IMPORT_FLOWS	4096	/* per call */
#define L4_NAT_IMPORT_UPDATED	254	/* result: the flow is there, and was changed */
#define L4_NAT_IMPORT_KNOWN	255	/* result: the flow is there, and nothing of this is new */

/* l4_nat_import_flow.fresh: the sender saw a packet of this side since it last told of the flow */
#define L4_NAT_FRESH_CLIENT	1
#define L4_NAT_FRESH_NODE	2

/* One flow, 40 bytes, native order; user space writes it to the map and reads `result`. */
struct l4_nat_import_flow {
	u32 client[4];		/* 0   in: as in packets */
	u32 slice;		/* 16  in: id: names node, source address, target port, protocol */
	u16 client_port;	/* 20  in: host order */
	u16 port;		/* 22  in: source port, host order */
	u16 service;		/* 24  in: id */
	u8 family;		/* 26  in: 4 or 6 */
	u8 state;		/* 27  in: L4_NAT_* of the client's side */
	u8 back_state;		/* 28  in: of the node's side */
	u8 fresh;		/* 29  in: L4_NAT_FRESH_* */
	u16 age;		/* 30  in: ticks since the client's last packet */
	u16 back_age;		/* 32  in: ticks since the node's last packet */
	u16 result;		/* 34  out: 0 = added, L4_NAT_IMPORT_*, else a GALE_REASON_* */
	u32 pad;
};

/* flows to take in; written by user space before it runs the program, one caller at a time */
GALE_MAP("array", u32, struct l4_nat_import_flow, l4_nat_imports, L4_NAT_IMPORT_FLOWS, BPF_F_MMAPABLE)

/*
 * The program's data, 16 bytes ("=4I"). A run takes in some flows from `done` on, as many as tail
 * calls in a row are allowed (33): one program for all would be too much for the verifier, and a run
 * with repeat > 1 waits for an RCU grace period. It answers 0, or 1 when there is nothing to do.
 */
struct l4_nat_import {
	u32 count;		/* in: flows in l4_nat_imports */
	u32 done;		/* in and out: flows looked at */
	u32 pad[2];
};

/* What a flow was told as: ticks of both sides' last packets, and of the last one of all. */
struct l4_nat_told {
	u16 age;
	u16 back_age;
	u16 last;
};

static __always_inline int l4_nat_later(u16 age, u16 than)
{
	return (s16)(age - than) > 0;
}

static __always_inline u16 l4_nat_last(u64 forward, u64 backward)
{
	u16 age = l4_nat_age(forward);

	return l4_nat_later(l4_nat_age(backward), age) ? l4_nat_age(backward) : age;
}

#ifdef L4_NAT_DNAT
static __always_inline int l4_nat_import_claim(u32 family, struct l4_nat_import_flow *f,
					       struct l4_nat_slice_info *slice,
					       struct l4_nat_key *k, struct l4_nat_told *told,
					       struct l4_nat_new *n)
{
	return l4_nat_claim_back(family, k, n);
}
#else
/* Retire the flow that holds the slot if it is the older one: the owner of the address has given the port anew. */
static __always_inline int l4_nat_import_oust(u32 family, u64 *slot, u64 back,
					      struct l4_nat_key *k, struct l4_nat_told *told,
					      struct l4_nat_new *n)
{
	struct l4_nat_key held;
	u64 *entry, forward;

	entry = l4_nat_holder(family, slot, &held, &forward);
	if (!entry || l4_nat_first(forward) != n->slice || l4_nat_second(forward) != n->port)
		return GALE_REASON_FLOW_BUSY;
	if (!l4_nat_expired(forward, back, n->now) &&
	    !l4_nat_later(told->last, l4_nat_last(forward, back)))
		return GALE_REASON_TABLE_FULL;
	if (!l4_nat_retire_other(family, k, &held, entry, forward))
		return GALE_REASON_FLOW_BUSY;
	__sync_lock_test_and_set(entry, L4_NAT_FREE);
	return 0;
}

/* Claim the very port that the flow has: in quarantine, too, if the flow began after that. */
static __always_inline int l4_nat_import_claim(u32 family, struct l4_nat_import_flow *f,
					       struct l4_nat_slice_info *slice,
					       struct l4_nat_key *k, struct l4_nat_told *told,
					       struct l4_nat_new *n)
{
	u16 offset = f->port - slice->first_port;
	u64 *slot, word;
	int reason;

	if (offset >= slice->count)
		return GALE_REASON_TABLE_FULL;
	slot = l4_nat_slot(family, slice->base + offset);
	if (!slot)
		return GALE_REASON_INTERNAL;
	n->port = f->port;
	word = L4_NAT_READ(*slot);
	if (word >= L4_NAT_USED) {
		reason = l4_nat_import_oust(family, slot, word, k, told, n);
		if (reason)
			return reason;
		word = L4_NAT_READ(*slot);
	} else if (!l4_nat_port_free(word, n->now) &&
		   !(word > L4_NAT_BUSY && l4_nat_later(told->last, l4_nat_age(word)))) {
		return word == L4_NAT_BUSY ? GALE_REASON_FLOW_BUSY : GALE_REASON_TABLE_FULL;
	}
	if (word == L4_NAT_BUSY || word >= L4_NAT_USED || !l4_nat_swap(slot, word, L4_NAT_BUSY))
		return GALE_REASON_FLOW_BUSY;
	n->back = slot;
	return 0;
}
#endif

/* With the lock held: make the flow; `old` is an entry of the same key that gives way, or NULL. 0 or a reason. */
static __always_inline int l4_nat_import_make(u32 family, struct l4_nat_import_flow *f,
					      struct l4_nat_slice_info *slice,
					      struct l4_nat_key *k, struct l4_nat_told *told,
					      u64 *old, u64 word, u16 now)
{
	struct l4_nat_new n = { .now = now, .slice = f->slice };
	int reason = l4_nat_import_claim(family, f, slice, k, told, &n);
	u64 *entry = old;

	if (reason)
		return reason;
	if (!old)
		entry = l4_nat_claim_entry(family, k, now);
	else if (!l4_nat_retire(family, k, old, word))
		entry = NULL;
	if (!entry) {
		__sync_lock_test_and_set(n.back, L4_NAT_FREE);
		return old ? GALE_REASON_FLOW_BUSY : GALE_REASON_TABLE_FULL;
	}
	l4_nat_publish_back(family, &n, k, l4_nat_word(f->service, 0, f->back_state, told->back_age));
	l4_nat_publish(entry, family, k, l4_nat_word(f->slice, n.port, f->state, told->age));
	return 0;
}

/*
 * One side's word with what is told of it. Bits stay, except for RST, which the later packet
 * decides, or in the same tick who saw it. A side that waits for a node that is down goes on waiting.
 */
static __always_inline u64 l4_nat_import_merge(u64 word, u32 state, u16 age, u32 fresh)
{
	u32 ours = l4_nat_state(word), both = ours | state;

	if (l4_nat_later(age, l4_nat_age(word))) {
		both &= state | ~L4_NAT_RST;
		if (!(ours & L4_NAT_DOWN_SEEN))
			word = (word & ~0xffffULL) | age;
	} else if (age != l4_nat_age(word)) {
		both &= ours | ~L4_NAT_RST;
	} else if (fresh) {
		both &= state | ~L4_NAT_RST;
	}
	return (word & ~0xff0000ULL) | (u64)both << 16;
}

/* Change a word that may have been changed meanwhile. */
static __always_inline int l4_nat_import_change(u64 *at, u64 from, u64 to)
{
	if (from == to)
		return L4_NAT_IMPORT_KNOWN;
	return l4_nat_swap(at, from, to) ? L4_NAT_IMPORT_UPDATED : GALE_REASON_FLOW_BUSY;
}

/* The flow is there, by the same way: add what is new. */
static __always_inline int l4_nat_import_update(struct l4_nat_import_flow *f,
						struct l4_nat_told *told, u64 *entry, u64 word,
						u64 *at, u64 back, u32 anew)
{
	int one, other;

	if (anew) {	/* another flow of the same client by the same port */
		one = l4_nat_import_change(entry, word, l4_nat_word(word >> 48, l4_nat_second(word),
								    f->state, told->age));
		other = l4_nat_import_change(at, back, l4_nat_word(back >> 48, l4_nat_second(back),
								   f->back_state, told->back_age));
	} else {
		one = l4_nat_import_change(entry, word,
					   l4_nat_import_merge(word, f->state, told->age,
							       f->fresh & L4_NAT_FRESH_CLIENT));
		other = l4_nat_import_change(at, back,
					     l4_nat_import_merge(back, f->back_state, told->back_age,
								 f->fresh & L4_NAT_FRESH_NODE));
	}
	return one < other ? one : other;	/* busy before updated before known */
}

/* With the lock held, an entry of the key is there: the same flow, or which one is the younger. */
static __always_inline int l4_nat_import_meet(u32 family, struct l4_nat_import_flow *f,
					      struct l4_nat_slice_info *slice,
					      struct l4_nat_key *k, struct l4_nat_told *told,
					      u64 *entry, u64 word, u16 now)
{
	u64 back = 0, *at = l4_nat_back(family, k, word, &back);
	u32 over = !at || l4_nat_expired(word, back, now) ||
		   (f->state & L4_NAT_TCP && l4_nat_closed(word, back));
	u32 closed = (f->state | f->back_state) & L4_NAT_RST || f->state & f->back_state & L4_NAT_FIN;
	int reason;

	if (at && word >> 32 == ((u64)f->slice << 16 | f->port))
		return l4_nat_import_update(f, told, entry, word, at, back,
					    over && !closed &&
					    l4_nat_later(told->last, l4_nat_last(word, back)));
	if (!(over && !closed) && !l4_nat_later(told->age, l4_nat_age(word)))
		return GALE_REASON_TABLE_FULL;
	reason = l4_nat_import_make(family, f, slice, k, told, entry, word, now);
	return reason ? reason : L4_NAT_IMPORT_UPDATED;
}

static __always_inline int l4_nat_import_flow_in(struct l4_nat_import_flow *f, u16 now)
{
	struct l4_nat_slice_info *slice = l4_nat_slice(f->slice);
	struct l4_nat_told told = { .age = now - f->age, .back_age = now - f->back_age };
	u32 family = gale_family(f->family);
	u64 *lock, *entry, word = 0;
	struct l4_nat_key key;
	int reason;

	if (!slice || !slice->node || slice->family != family || !f->service)
		return GALE_REASON_INTERNAL;
	told.last = l4_nat_last(told.age, told.back_age);
	l4_nat_key_make(&key, family, f->client, f->client_port, f->service);
	lock = l4_nat_lock(key.hash);
	if (!lock)
		return GALE_REASON_FLOW_BUSY;
	entry = l4_nat_find(L4_NAT_FORWARD, family, &key, &word);
	if (entry)
		reason = l4_nat_import_meet(family, f, slice, &key, &told, entry, word, now);
	else
		reason = l4_nat_import_make(family, f, slice, &key, &told, NULL, 0, now);
	l4_nat_unlock(lock);
	return reason;
}

/* Take in one flow, and go on with the next one. */
int GALE_FN(l4_nat_import_one)(GALE_CTX *ctx)
{
	struct l4_nat_import *head = gale_data(ctx);
	struct l4_nat_import_flow *flow, copy;
	u32 at, count;

	if ((void *)(head + 1) > gale_data_end(ctx))
		return 1;
	at = head->done;
	count = head->count;
	if (at >= count)
		return 1;
	flow = l4_nat_imports.lookup(&at);
	if (!flow)
		return 1;
	GALE_OPAQUE(flow);
	head->done = at + 1;
	copy = *flow;
	flow->result = l4_nat_import_flow_in(&copy, gale_tick());
	if (at + 1 < count)
		gale_tail(ctx, GALE_SLOW_L4_NAT_IMPORT_ONE);
	return 0;
}

int l4_nat_import(struct xdp_md *ctx)
{
	gale_tail(ctx, GALE_SLOW_L4_NAT_IMPORT_ONE);
	return 1;
}

#endif
#endif
