/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Numbers of the wire formats, and sizes and flags of the pipeline. */
#ifndef GALELB_CONSTS_H
#define GALELB_CONSTS_H

#define GALE_ETH_IPV4		0x0800
#define GALE_ETH_IPV6		0x86DD
#define GALE_ETH_VLAN		0x8100
#define GALE_ETH_QINQ		0x88A8
#define GALE_VID_MASK		0x0fff

#define GALE_IP_ICMP		1
#define GALE_IP_TCP		6
#define GALE_IP_UDP		17
#define GALE_IP_ICMPV6		58

#define GALE_IP6_HOPOPTS	0
#define GALE_IP6_ROUTING	43
#define GALE_IP6_FRAGMENT	44
#define GALE_IP6_AH		51
#define GALE_IP6_DSTOPTS	60
#define GALE_MAX_EXTENSIONS	6

#define GALE_IP_MF		0x2000
#define GALE_IP_OFFSET		0x1fff
#define GALE_IP6_MF		0x0001
#define GALE_IP6_OFFSET		0xfff8

#define GALE_TCP_FIN		0x01
#define GALE_TCP_SYN		0x02
#define GALE_TCP_RST		0x04
#define GALE_TCP_ACK		0x10

#define GALE_AF_INET		2
#define GALE_AF_INET6		10

/* gale_packet.flags */
#define GALE_FIRST_FRAGMENT	1
#define GALE_LATER_FRAGMENT	2
#define GALE_ICMP_ERROR		4
#define GALE_EGRESS		8	/* TC, on the way out: the kernel has routed it already */

#define GALE_NO_VLAN_MATCH	0xffff	/* double-tagged: no service has this VID */
#define GALE_EXTENSIONS		1	/* gale_parse: go on in GALE_SLOW_EXTENSIONS */
#define GALE_MAX_CLIENTS	16384
#define GALE_MAX_FRAGMENTS	8192
#define GALE_FRAGMENT_TICKS	30

/*
 * Programs of slow work are reached by a tail call: GALE_SLOW_NAME is the index of NAME in the
 * program array, numbered when the parts are composed.
 */
#define GALE_SLOW_PROGRAMS	16

/* What GALE_SLOW_REPLY makes. */
#define GALE_REPLY_TTL		1
#define GALE_REPLY_TOO_BIG	2
#define GALE_REPLY_RESET	3

#ifndef GALE_ICMP_RATE
#define GALE_ICMP_RATE		100	/* ICMP messages and RSTs of our own, per second and CPU */
#endif
#ifndef GALE_EVENT_RATE
#define GALE_EVENT_RATE		50	/* events of one CPU per second */
#endif

/* Keeps clang from moving arithmetic on a pointer before the check that it is not NULL. */
#define GALE_OPAQUE(x)		asm volatile("" : "+r"(x))

/* IPv4 alone needs one word per address. */
#ifdef GALE_IPV6
#define GALE_WORDS		4
#else
#define GALE_WORDS		1
#endif

#endif
