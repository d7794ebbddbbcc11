/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The vocabulary of a context, for XDP. ctx_skb.h has the same for TC. */
#ifndef GALELB_CTX_H
#define GALELB_CTX_H

#define GALE_CTX		struct xdp_md
#define GALE_FN(name)		gale_xdp_##name
#define GALE_PASS		XDP_PASS
#define GALE_DROP		XDP_DROP

/* programs of slow work, by GALE_SLOW_*; filled after loading */
GALE_MAP("prog_array", u32, u32, gale_slow_xdp, GALE_SLOW_PROGRAMS, 0)

/* Returns only if the program is missing. */
static __always_inline void gale_tail(GALE_CTX *ctx, u32 index)
{
	gale_trace_step(GALE_STEP_PROGRAM, index);
	gale_slow_xdp.call(ctx, index);
}

/*
 * Both are pointers from here on: where two ways meet clang would widen what it takes for 32-bit numbers
 * with shifts, and the verifier allows none on pointers.
 */
static __always_inline void *gale_data(GALE_CTX *ctx)
{
	u64 data = ctx->data;

	GALE_OPAQUE(data);
	return (void *)data;
}

static __always_inline void *gale_data_end(GALE_CTX *ctx)
{
	u64 end = ctx->data_end;

	GALE_OPAQUE(end);
	return (void *)end;
}

static __always_inline u32 gale_ifindex(GALE_CTX *ctx)
{
	return ctx->ingress_ifindex;
}

static __always_inline u32 gale_linear_len(GALE_CTX *ctx)
{
	return gale_data_end(ctx) - gale_data(ctx);
}

/* Bytes of the whole frame; more than the linear part when it has several pages. */
static __always_inline u32 gale_frame_len(GALE_CTX *ctx)
{
	return bpf_xdp_get_buff_len(ctx);
}

static __always_inline u32 gale_gso_size(GALE_CTX *ctx)
{
	return 0;
}

/* Nothing to do: headers are always in the linear part. */
static __always_inline void gale_pull(GALE_CTX *ctx)
{
}

/* Number of tags outside the frame's data, and the tag. */
static __always_inline u32 gale_hw_tag(GALE_CTX *ctx, u16 *tci)
{
	return 0;
}

#define GALE_QUOTE		128	/* at most so many bytes are quoted in an ICMP error */

/* Bytes of the packet to quote; an even number. */
static __always_inline u32 gale_quote_len(struct gale_packet *p)
{
	return (p->len > GALE_QUOTE ? GALE_QUOTE : p->len) & ~1U;
}

/* Bytes of the packet to keep in the frame for that. */
static __always_inline u32 gale_kept_len(struct gale_packet *p)
{
	return gale_quote_len(p);
}

static __always_inline int gale_load(GALE_CTX *ctx, u32 offset, void *to, u32 len)
{
	return bpf_xdp_load_bytes(ctx, offset, to, len);
}

static __always_inline int gale_store(GALE_CTX *ctx, u32 offset, void *from, u32 len)
{
	return bpf_xdp_store_bytes(ctx, offset, from, len);
}

/* Cut the frame to `len` bytes. */
static __always_inline int gale_trim(GALE_CTX *ctx, u32 len)
{
	return bpf_xdp_adjust_tail(ctx, (int)(len - gale_frame_len(ctx)));
}

/* Make room for `len` bytes before the frame. */
static __always_inline int gale_grow_head(GALE_CTX *ctx, u32 len)
{
	return bpf_xdp_adjust_head(ctx, -(int)len);
}

/*
 * Send the frame back out of `ifindex`, the interface that it came in by. A veth hands XDP_TX
 * frames over at once only to a peer that runs XDP too; else they wait for other traffic
 * (veth_xdp_flush). Redirected ones are never held back.
 */
static __always_inline int gale_bounce(u32 ifindex)
{
#ifdef GALE_VETH
	return bpf_redirect(ifindex, 0);
#else
	return XDP_TX;
#endif
}

/* Send the frame back out of the interface that it came in by. */
static __always_inline int gale_send_back(GALE_CTX *ctx)
{
	return gale_bounce(gale_ifindex(ctx));
}

#endif
