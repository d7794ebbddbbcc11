/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The way back: which client an answer of a node is for. */
#ifndef GALELB_L4_NAT_BACK_H
#define GALELB_L4_NAT_BACK_H

struct l4_nat_client {
	u32 addr[GALE_WORDS];
	__be16 port;
	u64 *at;		/* the word of the node's direction */
	u64 word;
};

#ifdef L4_NAT_DNAT
static __always_inline int l4_nat_client_read(u32 family, struct l4_nat_slice *slice, u32 *addr,
					      __be16 port, struct l4_nat_client *c)
{
	struct l4_nat_key key;

	l4_nat_key_make(&key, family, addr, ntohs(port), slice->id);
	c->at = l4_nat_find(L4_NAT_BACKWARD, family, &key, &c->word);
	__builtin_memcpy(c->addr, addr, 4 * GALE_WORDS);
	c->port = port;
	return !!c->at;
}
#else
static __always_inline int l4_nat_client_read(u32 family, struct l4_nat_slice *slice, u32 *addr,
					      __be16 port, struct l4_nat_client *c)
{
	u16 offset = ntohs(port) - slice->first_port;

	if (offset >= slice->count)
		return 0;
	c->at = l4_nat_slot(family, slice->base + offset);
	if (!c->at)
		return 0;
	c->word = L4_NAT_READ(*c->at);
	if (c->word < L4_NAT_USED)
		return 0;
	c->port = htons(L4_NAT_READ(*(c->at - 1)) >> 16);
#ifdef GALE_IPV6
	if (family == GALE_FAMILY_IPV6) {
		u64 hi = L4_NAT_READ(*(c->at - 3)), lo = L4_NAT_READ(*(c->at - 2));

		c->addr[0] = hi;
		c->addr[1] = hi >> 32;
		c->addr[2] = lo;
		c->addr[3] = lo >> 32;
		return 1;
	}
#endif
	c->addr[0] = L4_NAT_READ(*(c->at - 1)) >> 32;
	return 1;
}
#endif

/* What messages of ours to a node come from: NULL = what it wrote to; the VIP when that is the client. */
static __always_inline u32 *l4_nat_self(struct gale_service *service)
{
#ifdef L4_NAT_DNAT
	return service->addr;
#else
	return NULL;
#endif
}

/* The client of a flow, from what its node sees: node:target_port <-> source:port. 0 = no flow. */
static __always_inline int l4_nat_client_find(u32 family, u32 *node, u32 *source,
					      __be16 target_port, __be16 port, u8 protocol,
					      struct l4_nat_client *c)
{
	struct l4_nat_slice_key key = { .protocol = protocol, .family = family };
	struct l4_nat_slice *slice;

	__builtin_memcpy(key.node, node, 4 * GALE_WORDS);
#ifndef L4_NAT_DNAT
	__builtin_memcpy(key.source, source, 4 * GALE_WORDS);
#endif
	key.target_port = target_port;
	slice = l4_nat_slices.lookup(&key);
	return slice && l4_nat_client_read(family, slice, source, port, c);
}

#endif
