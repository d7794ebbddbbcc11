/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Wire formats, so that no header package is needed. */
#ifndef GALELB_WIRE_H
#define GALELB_WIRE_H

struct gale_eth {
	u8 dst[6];
	u8 src[6];
	__be16 type;
};

struct gale_vlan {
	__be16 tci;
	__be16 type;
};

struct gale_ipv4 {
	u8 ihl:4, version:4;	/* little endian */
	u8 tos;
	__be16 tot_len;
	__be16 id;
	__be16 frag_off;
	u8 ttl;
	u8 protocol;
	u16 check;
	__be32 saddr;
	__be32 daddr;
};

struct gale_ipv6 {
	__be32 flow;		/* version, traffic class, flow label */
	__be16 payload_len;
	u8 nexthdr;
	u8 hop_limit;
	__be32 saddr[4];
	__be32 daddr[4];
};

struct gale_ipv6_ext {
	u8 nexthdr;
	u8 len;
	u8 type;
	u8 left;
};

struct gale_ipv6_frag {
	u8 nexthdr;
	u8 reserved;
	__be16 offset;
	__be32 id;
};

struct gale_tcp {
	__be16 sport;
	__be16 dport;
	__be32 seq;
	__be32 ack;
	u8 offset;		/* header length in words, high four bits */
	u8 flags;
	__be16 window;
	u16 check;
	__be16 urgent;
};

struct gale_udp {
	__be16 sport;
	__be16 dport;
	__be16 len;
	u16 check;
};

struct gale_icmp {
	u8 type;
	u8 code;
	u16 check;
	__be16 unused;
	__be16 mtu;
};

#endif
