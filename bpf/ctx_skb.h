/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The vocabulary of a context, for TC. ctx_xdp.h has the same for XDP. */
#ifndef GALELB_CTX_H
#define GALELB_CTX_H

#define GALE_CTX		struct __sk_buff
#define GALE_FN(name)		gale_tc_##name
#define GALE_PASS		0	/* TC_ACT_OK */
#define GALE_DROP		2	/* TC_ACT_SHOT */
#define GALE_HEADERS		256	/* bytes that are made readable */

/* programs of slow work, by GALE_SLOW_*; filled after loading */
GALE_MAP("prog_array", u32, u32, gale_slow_tc, GALE_SLOW_PROGRAMS, 0)

/* Returns only if the program is missing. */
static __always_inline void gale_tail(GALE_CTX *ctx, u32 index)
{
	gale_slow_tc.call(ctx, index);
}

/* 64 bits wide at once: ctx_xdp.h tells why. */
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
	return ctx->ifindex;
}

static __always_inline u32 gale_linear_len(GALE_CTX *ctx)
{
	return ctx->len;
}

static __always_inline u32 gale_frame_len(GALE_CTX *ctx)
{
	return ctx->len;
}

static __always_inline u32 gale_gso_size(GALE_CTX *ctx)
{
	return ctx->gso_size;
}

/* Headers may lie outside the linear part; afterwards all pointers are new. */
static __always_inline void gale_pull(GALE_CTX *ctx)
{
	u32 len = ctx->len;

	if (len > GALE_HEADERS)
		len = GALE_HEADERS;
	if (gale_data(ctx) + len > gale_data_end(ctx))
		bpf_skb_pull_data(ctx, len);
}

/* Number of tags outside the frame's data, and the tag. */
static __always_inline u32 gale_hw_tag(GALE_CTX *ctx, u16 *tci)
{
	if (!ctx->vlan_present)
		return 0;
	*tci = ctx->vlan_tci;
	return 1;
}

#define GALE_QUOTE		128	/* at most so many bytes are quoted in an ICMP error */

/*
 * Only the first eight bytes of TCP: its checksum may be computed on the way out, so it must lie
 * behind what our own checksum covers.
 */
static __always_inline u32 gale_quote_len(struct gale_packet *p)
{
	u32 len = p->l4 - p->l3 + 8;

	return (len > GALE_QUOTE ? GALE_QUOTE : len) & ~1U;
}

/* Bytes to keep in the frame: the checksum field stays, behind the end of the new packet. */
static __always_inline u32 gale_kept_len(struct gale_packet *p)
{
	u32 len = p->l4 - p->l3 + sizeof(struct gale_tcp);

	return p->len > len ? len : p->len;
}

static __always_inline int gale_load(GALE_CTX *ctx, u32 offset, void *to, u32 len)
{
	return bpf_skb_load_bytes(ctx, offset, to, len);
}

static __always_inline int gale_store(GALE_CTX *ctx, u32 offset, void *from, u32 len)
{
	return bpf_skb_store_bytes(ctx, offset, from, len, 0);
}

/* Cut the frame to `len` bytes. */
static __always_inline int gale_trim(GALE_CTX *ctx, u32 len)
{
	return bpf_skb_change_tail(ctx, len, 0);
}

/* Make room for `len` bytes before the frame. */
static __always_inline int gale_grow_head(GALE_CTX *ctx, u32 len)
{
	return bpf_skb_change_head(ctx, len, 0);
}

/* Send the frame back out of the interface that it came in by. */
static __always_inline int gale_send_back(GALE_CTX *ctx)
{
	return bpf_redirect(ctx->ifindex, 0);
}

#endif
