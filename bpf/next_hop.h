/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Next hops: objects by index, or the FIB's answer where there is none yet. */
#ifndef GALELB_NEXT_HOP_H
#define GALELB_NEXT_HOP_H

static __always_inline struct gale_next_hop *gale_next_hop_get(u32 index)
{
	struct gale_next_hop *hop = gale_next_hops.lookup(&index);

	return hop && hop->flags & GALE_NEXT_HOP_VALID ? hop : NULL;
}

static __always_inline void gale_tell(struct gale_scratch *scratch, u32 type, u32 ifindex,
				      struct gale_packet *p, u32 *addr, struct bpf_fib_lookup *fib)
{
	struct gale_event event = { .type = type, .ifindex = ifindex, .family = p->family };

	if (!gale_allowed(&scratch->event_at, &scratch->events, GALE_EVENT_RATE))
		return;
	__builtin_memcpy(event.addr, addr, 4 * GALE_WORDS);
	if (type == GALE_EVENT_NEW_NEXT_HOP) {
		__builtin_memcpy(event.mac, fib->dmac, 6);
		__builtin_memcpy(event.smac, fib->smac, 6);
		event.mtu = scratch->hop.mtu;
	}
	gale_events.ringbuf_output(&event, sizeof(event), 0);
}

/* Index of the next hop that the FIB named; 0 = the control plane has none yet. */
static __always_inline u32 gale_next_hop_find(struct gale_next_hop *hop)
{
	struct gale_next_hop_key key = { .ifindex = hop->ifindex };
	u32 *index;

	__builtin_memcpy(key.dst, hop->dst, 6);
	index = gale_next_hop_index.lookup(&key);
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

/*
 * Ask the FIB for the way to `daddr`. The answer lives until the next question of this CPU. NULL:
 * no route or no neighbour, and the control plane was told. `index` gets the object's index or 0.
 */
static __always_inline struct gale_next_hop *gale_fib(GALE_CTX *ctx, struct gale_packet *p,
						      u32 *saddr, u32 *daddr, u32 *index)
{
	struct gale_scratch *scratch = gale_scratch_get();
	struct bpf_fib_lookup *fib;
	long answer;

	*index = 0;
	if (!scratch)
		return NULL;
	fib = (void *)scratch->fib;
	gale_fib_fill(fib, ctx, p, saddr, daddr);
	answer = bpf_fib_lookup(ctx, fib, sizeof(*fib), 0);
	if (answer != BPF_FIB_LKUP_RET_SUCCESS) {
		gale_tell(scratch, GALE_EVENT_NO_NEIGHBOUR, fib->ifindex, p, daddr, fib);
		return NULL;
	}
	scratch->hop.ifindex = fib->ifindex;
	scratch->hop.mtu = fib->mtu_result;
	scratch->hop.flags = GALE_NEXT_HOP_VALID;
	__builtin_memcpy(scratch->hop.dst, fib->dmac, 6);
	__builtin_memcpy(scratch->hop.src, fib->smac, 6);
	*index = gale_next_hop_find(&scratch->hop);
	if (!*index)
		gale_tell(scratch, GALE_EVENT_NEW_NEXT_HOP, fib->ifindex, p, daddr, fib);
	return &scratch->hop;
}

#endif
