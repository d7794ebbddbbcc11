/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Next hops: objects by index, or the FIB's answer where there is none yet. */
#ifndef GALELB_NEXT_HOP_H
#define GALELB_NEXT_HOP_H

static __always_inline struct gale_next_hop *gale_next_hop_get(u32 index)
{
	struct gale_next_hop *hop = gale_next_hops.lookup(&index);

	return hop && hop->flags & GALE_NEXT_HOP_VALID ? hop : NULL;
}

/* An event to fill in and send; NULL: there were too many. */
static __always_inline struct gale_event *gale_event_new(struct gale_scratch *scratch, u32 type,
							 u32 family)
{
	struct gale_event *event = &scratch->event;

	if (!gale_allowed(&scratch->event_at, &scratch->events, GALE_EVENT_RATE))
		return NULL;
	__builtin_memset(event, 0, sizeof(*event));
	event->type = type;
	event->family = family;
	return event;
}

/* Tell the control plane that a node's next hop is not known. */
static __always_inline void gale_tell_unresolved(struct gale_node *node)
{
	u32 family = node->flags & GALE_NODE_IPV6 ? GALE_FAMILY_IPV6 : GALE_FAMILY_IPV4;
	struct gale_scratch *scratch = gale_scratch_get();
	struct gale_event *event;

	if (!scratch)
		return;
	event = gale_event_new(scratch, GALE_EVENT_NO_NEIGHBOUR, family);
	if (!event)
		return;
	__builtin_memcpy(event->addr, node->addr, sizeof(node->addr));
	gale_events.ringbuf_output(event, sizeof(*event), 0);
}

/* Tell the control plane, not too often. `hop` is the new one, or NULL. */
static __always_inline void gale_tell(struct gale_scratch *scratch, u32 type, struct gale_packet *p,
				      u32 *addr, struct gale_next_hop *hop)
{
	struct gale_event *event = gale_event_new(scratch, type, p->family);

	if (!event)
		return;
	__builtin_memcpy(event->addr, addr, 4);
#ifdef GALE_IPV6
	if (p->family == GALE_FAMILY_IPV6)
		__builtin_memcpy(event->addr, addr, 16);
#endif
	if (hop) {
		event->ifindex = hop->ifindex;
		event->mtu = hop->mtu;
		__builtin_memcpy(event->mac, hop->dst, 6);
		__builtin_memcpy(event->smac, hop->src, 6);
	}
	gale_events.ringbuf_output(event, sizeof(*event), 0);
}

/* Index of the next hop that the FIB named; 0 = the control plane has none yet. */
static __always_inline u32 gale_next_hop_find(struct gale_scratch *scratch,
					      struct gale_next_hop *hop)
{
	u32 *index;

	scratch->next_hop.ifindex = hop->ifindex;
	__builtin_memcpy(scratch->next_hop.dst, hop->dst, 6);
	index = gale_next_hop_index.lookup(&scratch->next_hop);
	return index ? *index : 0;
}

static __always_inline void gale_fib_fill(struct bpf_fib_lookup *fib, GALE_CTX *ctx,
					  struct gale_packet *p, u32 *saddr, u32 *daddr)
{
	__builtin_memset(fib, 0, sizeof(*fib));
	fib->ifindex = gale_ifindex(ctx);
	fib->l4_protocol = p->protocol;
	fib->tot_len = 1;	/* non-zero: answer with the route's MTU */
	fib->family = GALE_AF_INET;
	fib->ipv4_src = saddr[0];
	fib->ipv4_dst = daddr[0];
#ifdef GALE_IPV6
	if (p->family == GALE_FAMILY_IPV6) {
		fib->family = GALE_AF_INET6;
		__builtin_memcpy(fib->ipv6_src, saddr, 16);
		__builtin_memcpy(fib->ipv6_dst, daddr, 16);
	}
#endif
}

static __always_inline void gale_client_fill(struct gale_scratch *scratch, struct gale_packet *p,
					     u32 *addr)
{
	__builtin_memset(&scratch->client, 0, sizeof(scratch->client));
	__builtin_memcpy(scratch->client.addr, addr, 4);
#ifdef GALE_IPV6
	if (p->family == GALE_FAMILY_IPV6)
		__builtin_memcpy(scratch->client.addr, addr, 16);
#endif
	scratch->client.family = p->family;
}

/* The way that the last new flow of this client came, if its answer can go there; or NULL. */
static __always_inline struct gale_next_hop *gale_client_way(struct gale_scratch *scratch,
							     struct gale_packet *p, u32 *addr)
{
	gale_client_fill(scratch, p, addr);
	return gale_client_ways.lookup(&scratch->client);
}

/*
 * Where the kernel does not forward, the FIB tells us nothing: then a client is answered the way
 * that it came. Remembers that way and returns it, or NULL.
 */
static __always_inline struct gale_next_hop *gale_client_learn(GALE_CTX *ctx,
							       struct gale_scratch *scratch,
							       struct gale_packet *p)
{
	struct gale_next_hop *hop = &scratch->hop;
	u8 mac[12];
	u32 mtu = 0;

	if (gale_load(ctx, 0, mac, sizeof(mac)) || bpf_check_mtu(ctx, 0, &mtu, 0, 0) < 0)
		return NULL;
	hop->ifindex = gale_ifindex(ctx);
	hop->mtu = mtu > 0xffff ? 0xffff : mtu;
	hop->flags = GALE_NEXT_HOP_VALID;
	__builtin_memcpy(hop->src, mac, 6);
	__builtin_memcpy(hop->dst, mac + 6, 6);
	gale_client_fill(scratch, p, p->saddr);
	gale_client_ways.update(&scratch->client, hop);
	return hop;
}

static __always_inline u32 *gale_fib_gateway(struct gale_scratch *scratch, struct gale_packet *p)
{
	struct bpf_fib_lookup *fib = (void *)scratch->fib;

#ifdef GALE_IPV6
	if (p->family == GALE_FAMILY_IPV6)
		return fib->ipv6_dst;
#endif
	return &fib->ipv4_dst;
}

/* The FIB's answer as a next hop; NULL and the kernel's reason in `answer` when it has none. */
static __always_inline struct gale_next_hop *gale_fib_ask(GALE_CTX *ctx,
							  struct gale_scratch *scratch,
							  struct gale_packet *p, u32 *saddr,
							  u32 *daddr, long *answer)
{
	struct bpf_fib_lookup *fib = (void *)scratch->fib;

	gale_fib_fill(fib, ctx, p, saddr, daddr);
	*answer = bpf_fib_lookup(ctx, fib, sizeof(*fib), 0);
	if (*answer != BPF_FIB_LKUP_RET_SUCCESS)
		return NULL;
	scratch->hop.ifindex = fib->ifindex;
	scratch->hop.mtu = fib->mtu_result;
	scratch->hop.flags = GALE_NEXT_HOP_VALID;
	__builtin_memcpy(scratch->hop.dst, fib->dmac, 6);
	__builtin_memcpy(scratch->hop.src, fib->smac, 6);
	return &scratch->hop;
}

/*
 * The way to a client: what the FIB says, else the way that the client's packets came. With
 * `learn` the packet is the client's own. It lives until the next question of this CPU. NULL: no
 * way, and the control plane was told. `index` gets the object's index, or 0 while there is none.
 */
static __always_inline struct gale_next_hop *gale_fib(GALE_CTX *ctx, struct gale_packet *p,
						      u32 *saddr, u32 *daddr, int learn, u32 *index)
{
	struct gale_scratch *scratch = gale_scratch_get();
	struct gale_next_hop *hop;
	long answer;

	*index = 0;
	if (!scratch)
		return NULL;
	hop = gale_fib_ask(ctx, scratch, p, saddr, daddr, &answer);
	if (!hop && (answer == BPF_FIB_LKUP_RET_FWD_DISABLED || answer == BPF_FIB_LKUP_RET_NO_NEIGH))
		hop = learn ? gale_client_learn(ctx, scratch, p) : gale_client_way(scratch, p, daddr);
	if (answer == BPF_FIB_LKUP_RET_NO_NEIGH)	/* the FIB names the gateway */
		gale_tell(scratch, GALE_EVENT_NO_NEIGHBOUR, p, gale_fib_gateway(scratch, p), NULL);
	if (!hop)
		return NULL;
	*index = gale_next_hop_find(scratch, hop);
	if (!*index)
		gale_tell(scratch, GALE_EVENT_NEW_NEXT_HOP, p, daddr, hop);
	return hop;
}

#endif
