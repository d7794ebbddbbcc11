/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* l4_nat_import: a helper program that adds flows known from elsewhere, by the rules of packets. */
#ifndef GALELB_L4_NAT_IMPORT_H
#define GALELB_L4_NAT_IMPORT_H
#ifndef GALE_TC

#define L4_NAT_IMPORT_FLOWS	64	/* per batch */
#define L4_NAT_IMPORT_KNOWN	255	/* result: the flow is there already */

/* One flow, 48 bytes, native order ("=16sIHHHBBBBHH14x"). */
struct l4_nat_import_flow {
	u32 client[4];		/* 0   in: as in packets */
	u32 slice;		/* 16  in: id: names node, source address, target port, protocol */
	u16 client_port;	/* 20  in: host order */
	u16 port;		/* 22  in: source port, host order */
	u16 service;		/* 24  in: id */
	u8 family;		/* 26  in: 4 or 6 */
	u8 state;		/* 27  in: L4_NAT_* of the client's side */
	u8 back_state;		/* 28  in: of the node's side */
	u8 result;		/* 29  out: 0 = added, L4_NAT_IMPORT_KNOWN, else a GALE_REASON_* */
	u16 age;		/* 30  in: ticks since the client's last packet */
	u16 back_age;		/* 32  in: ticks since the node's last packet */
	u16 pad[7];
};

/*
 * The program's data: this head of 16 bytes ("=4I"), then the flows. Each run adds the flow at
 * `done`, so it is run with repeat = count. It answers 0, or 1 when there is nothing to do.
 */
struct l4_nat_import {
	u32 count;		/* in: flows that follow, at most L4_NAT_IMPORT_FLOWS */
	u32 done;		/* in and out: flows looked at */
	u32 added;		/* in and out */
	u32 tick;		/* out: now */
};

#ifdef L4_NAT_DNAT
static __always_inline int l4_nat_import_claim(u32 family, struct l4_nat_import_flow *f,
					       struct l4_nat_slice_info *slice,
					       struct l4_nat_key *k, struct l4_nat_new *n)
{
	struct l4_nat_slice_key key = { .protocol = slice->protocol, .family = slice->family };
	struct gale_node *node = gale_node_get(slice->node);

	if (!node)
		return GALE_REASON_NODE_GONE;
	__builtin_memcpy(key.node, node->addr, 16);
	key.target_port = slice->target_port;
	return l4_nat_claim(family, &key, k, n);
}
#else
/* Claim the very port that the flow has. */
static __always_inline int l4_nat_import_claim(u32 family, struct l4_nat_import_flow *f,
					       struct l4_nat_slice_info *slice,
					       struct l4_nat_key *k, struct l4_nat_new *n)
{
	u16 offset = f->port - slice->first_port;
	u64 *slot, word;

	if (offset >= slice->count)
		return GALE_REASON_TABLE_FULL;
	slot = l4_nat_slot(family, slice->base + offset);
	if (!slot)
		return GALE_REASON_INTERNAL;
	word = L4_NAT_READ(*slot);
	if (!l4_nat_port_free(word, n->now) || !l4_nat_swap(slot, word, L4_NAT_BUSY))
		return GALE_REASON_TABLE_FULL;
	n->slice = f->slice;
	n->port = f->port;
	n->back = slot;
	return 0;
}
#endif

/* With the lock held: add the flow. 0 or a reason. */
static __always_inline int l4_nat_import_make(u32 family, struct l4_nat_import_flow *f,
					      struct l4_nat_slice_info *slice,
					      struct l4_nat_key *k, u16 now)
{
	struct l4_nat_new n = { .now = now };
	u64 *entry;
	int reason = l4_nat_import_claim(family, f, slice, k, &n);

	if (reason)
		return reason;
	entry = l4_nat_claim_entry(family, k, now);
	if (!entry) {
		__sync_lock_test_and_set(n.back, L4_NAT_FREE);
		return GALE_REASON_TABLE_FULL;
	}
	l4_nat_publish_back(family, &n, k,
			    l4_nat_word(f->service, 0, f->back_state, now - f->back_age));
	l4_nat_publish(entry, family, k, l4_nat_word(n.slice, n.port, f->state, now - f->age));
	return 0;
}

static __always_inline int l4_nat_import_one(struct l4_nat_import_flow *f, u16 now)
{
	struct l4_nat_slice_info *slice = l4_nat_slice(f->slice);
	u32 family = gale_family(f->family);
	struct l4_nat_key key;
	u64 *lock, word;
	int reason = L4_NAT_IMPORT_KNOWN;

	if (!slice || !slice->node || slice->family != family || !f->service)
		return GALE_REASON_INTERNAL;
	l4_nat_key_make(&key, family, f->client, f->client_port, f->service);
	lock = l4_nat_lock(key.hash);
	if (!lock)
		return GALE_REASON_FLOW_BUSY;
	if (!l4_nat_find(L4_NAT_FORWARD, family, &key, &word))
		reason = l4_nat_import_make(family, f, slice, &key, now);
	l4_nat_unlock(lock);
	return reason;
}

int l4_nat_import(struct xdp_md *ctx)
{
	struct l4_nat_import *head = gale_data(ctx);
	struct l4_nat_import_flow *flow, copy;
	u32 at;

	if ((void *)(head + 1) > gale_data_end(ctx))
		return 1;
	at = head->done;
	if (at >= head->count || at >= L4_NAT_IMPORT_FLOWS)
		return 1;
	flow = (void *)(head + 1) + at * sizeof(*flow);
	if ((void *)(flow + 1) > gale_data_end(ctx))
		return 1;
	copy = *flow;
	head->tick = gale_tick();
	head->done = at + 1;
	flow->result = l4_nat_import_one(&copy, head->tick);
	if (!flow->result)
		head->added++;
	return 0;
}

#endif
#endif
