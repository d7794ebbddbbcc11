/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Hash of a flow -> node, through the lookup table of its service. */
#ifndef GALELB_SELECT_H
#define GALELB_SELECT_H

#define GALE_MIX		0x9e3779b97f4a7c15ULL	/* 2^64 / golden ratio (Knuth, 6.4) */

/* One step of gale_hash; galelb/flowhash.py computes the same. */
static __always_inline u64 gale_mix(u64 state, u64 word)
{
	state = (state ^ word) * GALE_MIX;
	return state ^ (state >> 32);
}

/* The address of a packet, into a hash. */
static __always_inline u64 gale_mix_address(u64 state, struct gale_packet *p, u32 *addr)
{
	state = gale_mix(state, addr[0]);
#ifdef GALE_IPV6
	if (p->family == GALE_FAMILY_IPV6) {
		state = gale_mix(state, addr[1]);
		state = gale_mix(state, addr[2]);
		state = gale_mix(state, addr[3]);
	}
#endif
	return state;
}

/* Whether the address may be a node's: one that is not is found out here, for a nanosecond or two. */
static __always_inline int gale_node_may_be(struct gale_packet *p, u32 *addr)
{
	u32 bit = gale_mix_address(0, p, addr) >> 32, word = bit / 64 % GALE_NODE_FILTER_WORDS;
	u64 *bits = gale_node_filter.lookup(&word);

	return bits && *bits >> (bit % 64) & 1;
}

/* The node hash: the same on every balancer of a group for one GALE_TABLE_SEED. `port` is in host order. */
static __always_inline u32 gale_hash(struct gale_packet *p, u32 *addr, u16 port)
{
	u64 state = GALE_TABLE_SEED, first = addr[0] | (u64)htons(port) << 32;

#ifdef GALE_IPV6
	if (p->family == GALE_FAMILY_IPV6) {
		state = gale_mix(state, addr[1] | (u64)addr[2] << 32);
		state = gale_mix(state, addr[3]);
	}
#endif
	return (gale_mix(state, first) * GALE_MIX) >> 32;
}

static __always_inline struct gale_service *gale_service_get(u32 id)
{
	return gale_services.lookup(&id);
}

/* A node by index, or NULL when there is none (any more). */
static __always_inline struct gale_node *gale_node_get(u32 index)
{
	struct gale_node *node = gale_nodes.lookup(&index);

	return node && node->flags & GALE_NODE_PRESENT ? node : NULL;
}

/* The node that the service's table names for this hash; 0 = no routable node. */
static __always_inline u32 gale_select(struct gale_service *service, u32 hash)
{
	u32 slot = ((u64)hash * GALE_TABLE_SIZE) >> 32;
	u32 table = service->table, element;
	struct gale_slots *slots;

	if (table == GALE_NO_TABLE) {
		gale_trace_slot(hash, slot, table, 0);
		return 0;
	}
	element = table + slot / 4;
	slots = gale_slots.lookup(&element);
	gale_trace_slot(hash, slot, table, slots ? slots->node[slot % 4] : 0);
	return slots ? slots->node[slot % 4] : 0;
}

#endif
