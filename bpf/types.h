/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Structs that the control plane reads or writes; each is declared here and nowhere else. */
#ifndef GALELB_TYPES_H
#define GALELB_TYPES_H

/* Addresses are in network order; an IPv4 address is the first word, the other three are 0. */

/* A service; its index in gale_services is its id, 1 and up. Read by programs only. */
struct gale_service {
	u32 addr[4];		/* the VIP */
	__be16 port;
	__be16 target_port;	/* where the nodes listen; equal to port unless configured */
	u8 protocol;
	u8 family;		/* GALE_FAMILY_* */
	u16 vlan;		/* host order; 0 = untagged */
	u32 table;		/* first gale_slots element of its lookup table, or GALE_NO_TABLE */
	u32 option;		/* the forwarder's own */
};

/* A node; its index in gale_nodes is what slots and flows hold, 1 and up. */
struct gale_node {
	u32 addr[4];
	u16 next_hop;		/* index in gale_next_hops; 0 = unresolved */
	u16 flags;		/* GALE_NODE_* */
	u32 option;		/* the forwarder's own */
};

/* An address as a key; an IPv4 address is the first word, the other three are 0. */
struct gale_address {
	u32 addr[4];
};

/* Where a frame goes next: interface and both MAC addresses. Index 0 is never valid. */
struct gale_next_hop {
	u32 ifindex;
	u8 dst[6];		/* both as they lie in the frame, on a boundary of words */
	u8 src[6];
	u16 mtu;
	u16 flags;		/* GALE_NEXT_HOP_* */
};

/* The MAC address of an interface of ours. */
struct gale_own_mac {
	u32 ifindex;
	u8 mac[6];		/* on a boundary of words */
	u16 pad;
};

/* Four slots of a lookup table: slot n is lane n % 4 of element table + n / 4. 0 = no node. */
struct gale_slots {
	u16 node[4];
};

/* Index of a next hop by what the FIB answered. */
struct gale_next_hop_key {
	u32 ifindex;
	u8 dst[6];
	u16 pad;
};

/* A service by what packets say, when there are too many for generated compares.
 * port 0 = "has this address any service of this protocol": one more entry per such pair. */
struct gale_service_key {
	u32 addr[4];
	__be16 port;
	u8 protocol;
	u8 family;
	u16 vlan;
	u16 pad;
};

/* Which datagram a later fragment belongs to. IPv6: protocol = 0. */
struct gale_fragment_key {
	u32 saddr[4];
	u32 daddr[4];
	u32 id;
	u8 protocol;
	u8 family;
	u16 vlan;		/* VLANs may have the same addresses */
};

/* What was done with a first fragment, for those that follow. */
struct gale_fragment {
	u32 saddr[4];		/* addresses to write */
	u32 daddr[4];
	struct gale_next_hop hop;
	u32 id;			/* identification to write */
	u32 service;
	u32 seed;		/* struct gale_way */
	u16 vlan;		/* tag to push; 0 = none */
	u16 outer;		/* struct gale_way */
	u16 node;
	u16 tick;
	u16 passed;		/* 1 = the first fragment was passed */
	u16 ttl;		/* 1 = decrement */
};

/* What a program tells the control plane, through the ring buffer gale_events. */
struct gale_event {
	u32 type;		/* GALE_EVENT_* */
	u32 ifindex;
	u32 addr[4];		/* NO_NEIGHBOUR: the address that could not be resolved */
	u8 mac[6];		/* NEW_NEXT_HOP: the FIB's destination MAC */
	u8 smac[6];		/* NEW_NEXT_HOP: the FIB's source MAC */
	u16 mtu;
	u16 family;
};

/* A client, for the way that its packets came where the FIB cannot be asked. */
struct gale_client_key {
	u32 addr[4];
	u32 family;
};

/* Room beside the stack, one per CPU; lives from a tail call to the program that it reached. */
struct gale_scratch {
	u64 fib[8];		/* struct bpf_fib_lookup */
	struct gale_next_hop hop;	/* made of the FIB's answer */
	u32 kind;		/* GALE_REPLY_* */
	u32 mtu;
	u32 service;		/* id, or 0 */
	u32 addr[4];		/* what a reply of ours comes from */
	u64 reply_at;		/* jiffies; token buckets */
	u64 event_at;
	u32 replies;
	u32 events;
	struct gale_packet packet;	/* for the program that a tail call reaches */
	u32 pad;
	struct gale_fragment_key key;
	struct gale_fragment fragment;
	struct gale_client_key client;
	struct gale_next_hop_key next_hop;
	struct gale_event event;
	struct gale_rewrite inner;	/* of the packet that an ICMP error quotes */
	u64 word;		/* the forwarder's own, across a tail call */
	u64 work[16];		/* for helper programs */
};

struct gale_counter {
	u64 packets;
	u64 bytes;
};

#endif
