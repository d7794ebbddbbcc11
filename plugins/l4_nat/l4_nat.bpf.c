/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* l4_nat: stateful NAT. The fast path of both directions; new flows and slow work are beside it. */
#include "tables.h"
#include "flow.h"
#include "state.h"
#include "create.h"

/* From here on the packet goes to the node of its flow. */
static __always_inline int l4_nat_to_node(GALE_CTX *ctx, struct gale_packet *p,
					  struct gale_target *t, u64 word,
					  struct l4_nat_slice_info *slice)
{
	struct gale_rewrite rw = { .ttl = 1 };
	struct gale_way way = { .service = t->service_id, .node = slice->node };

	way.reason = GALE_REASON_FORWARDED;
	way.hop = gale_node_hop(p, t->node);
	if (!way.hop)
		return gale_drop(p, GALE_REASON_NO_NEIGHBOUR, t->service_id);
	__builtin_memcpy(rw.saddr, slice->source, 4 * GALE_WORDS);
	__builtin_memcpy(rw.daddr, t->node->addr, 4 * GALE_WORDS);
	rw.sport = htons(l4_nat_second(word));
	rw.dport = slice->target_port;
	return gale_send(ctx, p, &rw, &way, p->daddr);
}

static __always_inline int l4_nat_forward(GALE_CTX *ctx, struct gale_packet *p,
					  struct gale_target *t)
{
	struct l4_nat_slice_info *slice;
	struct l4_nat_key key;
	u64 *entry, word;
	int reason;

	l4_nat_key_make(&key, p->family, p->saddr, ntohs(p->sport), t->service_id);
	entry = l4_nat_find(L4_NAT_FORWARD, p->family, &key, &word);
	if (unlikely(!entry)) {
		reason = l4_nat_create(ctx, p, t, &key, &word);
		if (reason)
			return gale_drop(p, reason, t->service_id);
	}
	slice = l4_nat_slice(l4_nat_first(word));
	if (!slice)
		return gale_drop(p, GALE_REASON_INTERNAL, t->service_id);
	t->node = gale_node_get(slice->node);
	if (!t->node)
		return gale_drop(p, GALE_REASON_NODE_GONE, t->service_id);
	return l4_nat_to_node(ctx, p, t, word, slice);
}

/* The slice that an answer of a node belongs to. */
static __always_inline struct l4_nat_slice *l4_nat_slice_of(struct gale_packet *p)
{
	struct l4_nat_slice_key key = { .protocol = p->protocol, .family = p->family };

	__builtin_memcpy(key.node, p->saddr, 4 * GALE_WORDS);
	__builtin_memcpy(key.source, p->daddr, 4 * GALE_WORDS);
	key.target_port = p->sport;
	return l4_nat_slices.lookup(&key);
}

static __always_inline int l4_nat_to_client(GALE_CTX *ctx, struct gale_packet *p, u64 word,
					    u64 client)
{
	struct gale_service *service = gale_service_get(l4_nat_first(word));
	struct gale_rewrite rw = { .ttl = 1 };
	struct gale_way way = { .service = l4_nat_first(word), .reason = GALE_REASON_RETURNED };
	u32 index;

	if (!service || !service->protocol)
		return GALE_NOT_MINE;
	rw.daddr[0] = client >> 32;
	__builtin_memcpy(rw.saddr, service->addr, 4 * GALE_WORDS);
	rw.sport = service->port;
	rw.dport = htons(client >> 16);
	way.vlan = service->vlan;
	way.hop = gale_next_hop_get(l4_nat_second(word));
	if (!way.hop)
		way.hop = gale_fib(ctx, p, rw.saddr, rw.daddr, &index);
	if (!way.hop)
		return gale_drop(p, GALE_REASON_NO_NEIGHBOUR, way.service);
	return gale_send(ctx, p, &rw, &way, p->daddr);
}

static __always_inline int l4_nat_return(GALE_CTX *ctx, struct gale_packet *p)
{
	struct l4_nat_slice *slice = l4_nat_slice_of(p);
	struct l4_nat_entry4 *slot;
	u64 *at, word;
	u16 offset;

	if (!slice)
		return GALE_NOT_MINE;
	offset = ntohs(p->dport) - slice->first_port;
	if (offset >= slice->count)
		return GALE_NOT_MINE;
	at = l4_nat_slot(p->family, slice->base + offset);
	if (!at)
		return GALE_NOT_MINE;
	word = L4_NAT_READ(*at);
	if (word < L4_NAT_USED)
		return GALE_NOT_MINE;
	slot = (void *)at - offsetof(struct l4_nat_entry4, word);
	return l4_nat_to_client(ctx, p, word, L4_NAT_READ(slot->key));
}
