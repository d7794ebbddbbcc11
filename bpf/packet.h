/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A parsed packet: offsets, not pointers, because helpers invalidate pointers. */
#ifndef GALELB_PACKET_H
#define GALELB_PACKET_H

struct gale_packet {
	u32 saddr[GALE_WORDS];	/* network order */
	u32 daddr[GALE_WORDS];
	__be16 sport;		/* 0 in later fragments and for protocols without ports */
	__be16 dport;
	u16 l3;			/* offsets from the start of the frame */
	u16 l4;
	u32 len;		/* bytes from the IP header on, as that claims */
	u32 fragment;		/* identification, as it lies in the packet */
	u16 vlan;		/* VID; 0 = untagged or priority-tagged */
	u16 frag_l3;		/* IPv6: offset of the fragment header */
	u8 tags;
	u8 flags;
	u8 family;		/* GALE_FAMILY_* */
	u8 protocol;
	u8 ttl;
	u8 tcp_flags;
	u8 icmp_type;
	u8 pad;
};

/* What to write into it. */
struct gale_rewrite {
	u32 saddr[GALE_WORDS];
	u32 daddr[GALE_WORDS];
	__be16 sport;
	__be16 dport;
	u16 id;			/* new IPv4 identification of a fragment, as it lies in the packet */
	u16 ttl;		/* 1 = decrement */
	u32 id6;		/* the same for IPv6 */
};

/* What a service's answers come from. */
struct gale_front {
	u32 addr[GALE_WORDS];	/* the VIP */
	__be16 port;
	u16 vlan;		/* struct gale_service */
};

/*
 * Offsets for the verifier, which forgets their bounds when they come from a map. No header starts
 * later than GALE_MAX_L4: such packets count as unreadable.
 */
#define GALE_MAX_L4		0x3ff
#define GALE_L3(p)		((p)->l3 & 0x3f)
#define GALE_L4(p)		((p)->l4 & GALE_MAX_L4)
#define GALE_FRAG(p)		((p)->frag_l3 & GALE_MAX_L4)

#endif
