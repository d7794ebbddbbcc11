/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors about flows, from either side. */
#ifndef GALELB_L4_NAT_ICMP_H
#define GALELB_L4_NAT_ICMP_H

/* From the client's side about an answer: to the node, as if about what the node sent. */
static __always_inline int l4_nat_icmp_to_node(GALE_CTX *ctx, struct gale_packet *p,
					       struct gale_quote *quote, struct gale_rewrite *inner,
					       struct gale_way *way)
{
	struct gale_packet *q = &quote->packet;
	struct l4_nat_slice_info *slice;
	struct gale_node *node;
	struct l4_nat_key key;
	u64 word;

	l4_nat_key_make(&key, q->family, q->daddr, ntohs(q->dport), way->service);
	if (!l4_nat_find(L4_NAT_FORWARD, q->family, &key, &word))
		return gale_refuse(way, GALE_REASON_ICMP_UNKNOWN);
	slice = l4_nat_slice(l4_nat_first(word));
	node = slice ? gale_node_get(slice->node) : NULL;
	if (!node)
		return gale_refuse(way, GALE_REASON_NODE_GONE);
	way->node = slice->node;
	way->hop = gale_node_hop(node);
	if (!way->hop)
		return gale_refuse(way, GALE_REASON_NO_NEIGHBOUR);
	__builtin_memcpy(inner->saddr, node->addr, 4 * GALE_WORDS);
	__builtin_memcpy(way->rw.daddr, node->addr, 4 * GALE_WORDS);
#ifdef L4_NAT_DNAT
	__builtin_memcpy(inner->daddr, q->daddr, 4 * GALE_WORDS);
	__builtin_memcpy(way->rw.saddr, p->saddr, 4 * GALE_WORDS);
#else
	__builtin_memcpy(inner->daddr, slice->source, 4 * GALE_WORDS);
	__builtin_memcpy(way->rw.saddr, slice->source, 4 * GALE_WORDS);
#endif
	inner->sport = slice->target_port;
	inner->dport = htons(l4_nat_second(word));
	way->rw.ttl = 1;
	quote->translate = 1;
	return GALE_SEND;
}

/* From the nodes' side about a packet to a node: to the client, from the VIP. */
static __always_inline int l4_nat_icmp_to_client(GALE_CTX *ctx, struct gale_packet *p,
						 struct gale_quote *quote, struct gale_rewrite *inner,
					       struct gale_way *way)
{
	struct gale_packet *q = &quote->packet;
	struct gale_service *service;
	struct l4_nat_client client = {};
	u32 index;

	if (!l4_nat_client_find(q->family, q->daddr, q->saddr, q->dport, q->sport, q->protocol, &client))
		return GALE_NOT_MINE;
	service = gale_service_get(l4_nat_first(client.word));
	if (!service || !service->protocol)
		return GALE_NOT_MINE;
	way->service = l4_nat_first(client.word);
	way->vlan = service->vlan;
	__builtin_memcpy(inner->saddr, client.addr, 4 * GALE_WORDS);
	__builtin_memcpy(inner->daddr, service->addr, 4 * GALE_WORDS);
	__builtin_memcpy(way->rw.saddr, service->addr, 4 * GALE_WORDS);
	__builtin_memcpy(way->rw.daddr, client.addr, 4 * GALE_WORDS);
	inner->sport = client.port;
	inner->dport = service->port;
	way->rw.ttl = 1;
	way->hop = gale_next_hop_get(l4_nat_second(client.word));
	if (!way->hop)
		way->hop = gale_fib(ctx, p, way->rw.saddr, way->rw.daddr, 0, &index);
	if (!way->hop)
		return gale_refuse(way, GALE_REASON_NO_NEIGHBOUR);
	quote->translate = 1;
	return GALE_SEND;
}

static __always_inline int l4_nat_icmp(GALE_CTX *ctx, struct gale_packet *p,
				       struct gale_quote *quote, struct gale_rewrite *inner,
					       struct gale_way *way)
{
	if (way->service)
		return l4_nat_icmp_to_node(ctx, p, quote, inner, way);
	return l4_nat_icmp_to_client(ctx, p, quote, inner, way);
}

#endif
