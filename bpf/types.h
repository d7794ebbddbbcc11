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

/* Where a frame goes next: interface and both MAC addresses. Index 0 is never valid. */
struct gale_next_hop {
	u32 ifindex;
	u16 mtu;
	u8 dst[6];
	u8 src[6];
	u16 flags;		/* GALE_NEXT_HOP_* */
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

struct gale_counter {
	u64 packets;
	u64 bytes;
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

#endif
