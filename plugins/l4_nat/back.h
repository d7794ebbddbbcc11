/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The way back: which client an answer of a node is for. */
#ifndef GALELB_L4_NAT_BACK_H
#define GALELB_L4_NAT_BACK_H

struct l4_nat_client {
	u32 addr[GALE_WORDS];
	__be16 port;
	u64 *at;		/* the word of the node's direction */
	u64 word;
	u32 unknown;		/* no flow, but the port is one that flows are translated to */
};

#ifdef L4_NAT_DNAT
/* The client is in the packet. */
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
static __always_inline int l4_nat_client_read(u32 family, struct l4_nat_slice_info *slice,
					      __be16 port, struct l4_nat_client *c)
{
	u16 offset = ntohs(port) - slice->first_port;

	if (offset >= slice->count)
		return 0;
	c->at = l4_nat_slot(family, slice->base + offset);
	if (!c->at)
		return 0;
	c->word = L4_NAT_READ(*c->at);
	c->unknown = c->word < L4_NAT_USED;
	if (c->unknown)
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
static __always_inline u32 *l4_nat_self(u32 id)
{
#ifdef L4_NAT_DNAT
	struct gale_service *service = gale_service_get(id);

	return service ? service->addr : NULL;
#else
	return NULL;
#endif
}

static __always_inline struct l4_nat_slice *l4_nat_slice_find(u32 family, u32 *node, u32 *source,
							      __be16 target_port, u8 protocol)
{
	struct l4_nat_slice_key key = { .protocol = protocol, .family = family };

	__builtin_memcpy(key.node, node, 4 * GALE_WORDS);
#ifndef L4_NAT_DNAT
	__builtin_memcpy(key.source, source, 4 * GALE_WORDS);
#endif
	key.target_port = target_port;
	return l4_nat_slices.lookup(&key);
}

#ifdef L4_NAT_DNAT
/* The client of a flow, from what its node sees: node:target_port <-> source:port. 0 = no flow. */
static __always_inline int l4_nat_client_find(u32 family, u32 *node, u32 *source,
					      __be16 target_port, __be16 port, u8 protocol,
					      struct l4_nat_client *c)
{
	struct l4_nat_slice *slice = l4_nat_slice_find(family, node, source, target_port, protocol);

	return slice && l4_nat_client_read(family, slice, source, port, c);
}
#else
static __always_inline int l4_nat_is_slice(struct l4_nat_slice_info *slice, u32 family, u32 *node,
					   u32 *source, __be16 target_port, u8 protocol)
{
	u32 kind = target_port | (u32)protocol << 16 | family << 24;	/* three fields in one word */

	return *(u32 *)&slice->target_port == kind && gale_same_address(slice->source, source) &&
	       gale_same_address(slice->addr, node);
}

/* A word that differs where addresses do: IPv4 is the first one, IPv6 addresses of a site differ in the last. */
static __always_inline u32 l4_nat_address_word(u32 *addr)
{
#ifdef GALE_IPV6
	return addr[0] ^ addr[3];
#else
	return addr[0];
#endif
}

/*
 * The slice that an answer names. A hash of a key this long costs half of the packet's time, so the
 * last id for its hash is tried first: what it stands for is compared with the packet, therefore
 * any id is safe there, whoever wrote it.
 */
static __always_inline struct l4_nat_slice_info *
l4_nat_slice_of(u32 family, u32 *node, u32 *source, __be16 target_port, u8 protocol)
{
	u64 ends = (u64)l4_nat_address_word(source) << 32 | l4_nat_address_word(node);
	u32 at = (ends ^ (u64)target_port << 16 ^ protocol) * GALE_MIX >> (64 - L4_NAT_RECENT_BITS);
	u32 *recent = l4_nat_recent.lookup(&at);
	struct l4_nat_slice_info *slice;
	struct l4_nat_slice *found;

	if (!recent)
		return NULL;
	slice = l4_nat_slice(*recent);
	if (likely(slice && l4_nat_is_slice(slice, family, node, source, target_port, protocol)))
		return slice;
	found = l4_nat_slice_find(family, node, source, target_port, protocol);
	if (!found)
		return NULL;
	*recent = found->id;
	return l4_nat_slice(found->id);
}

/* The client of a flow, from what its node sees: node:target_port <-> source:port. 0 = no flow. */
static __always_inline int l4_nat_client_find(u32 family, u32 *node, u32 *source,
					      __be16 target_port, __be16 port, u8 protocol,
					      struct l4_nat_client *c)
{
	struct l4_nat_slice_info *slice =
		l4_nat_slice_of(family, node, source, target_port, protocol);

	return slice && l4_nat_client_read(family, slice, port, c);
}
#endif

#endif
