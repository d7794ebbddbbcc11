/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The words, structs and maps of l4_nat; docs/design/001-flow-table.md explains them. */
#ifndef GALELB_L4_NAT_TABLES_H
#define GALELB_L4_NAT_TABLES_H

/*
 * Words. Every entry and every slot ends in one 64-bit word that is changed by compare-and-swap
 * only: 0 = free, 1 = being written, from L4_NAT_USED up = in use, else a quarantined port.
 *
 *   entry of a forward table   slice id 16 | source port 16 (host order) | 0 8 | state 8 | age 16
 *   port slot, return entry    service id 16 | client next hop 16        | 0 8 | state 8 | age 16
 *   quarantined port           0 16 | 0 16 | 0 8 | L4_NAT_CLOSED 8 | age 16
 *
 * Ages are ticks: (u16)(jiffies64 >> GALE_TICK_SHIFT). A forward word belongs to the packets
 * from the client, a slot's or return entry's word to those from the node.
 */
#define L4_NAT_FREE		0ULL
#define L4_NAT_BUSY		1ULL
#define L4_NAT_USED		(1ULL << 48)

/* state bits, in forward words and in slots alike: what this side has sent */
#define L4_NAT_SEEN		0x01	/* forward: acknowledged an answer; slot: has answered */
#define L4_NAT_FIN		0x02
#define L4_NAT_RST		0x04	/* its last packet was a RST */
#define L4_NAT_TCP		0x08	/* set for TCP, clear for UDP */
#define L4_NAT_DOWN_SEEN	0x10	/* forward: the node is down, age = first unanswered packet */
#define L4_NAT_SYN		0x20	/* forward: began with a SYN, not adopted */
#define L4_NAT_CLOSED		0x40	/* slot: quarantined */

#define L4_NAT_ENTRIES		4	/* per bucket */
#define L4_NAT_LOCKS		4096
#define L4_NAT_RECENT_BITS	12
#define L4_NAT_SOURCES		256
#define L4_NAT_POOL		64	/* source addresses in use per family */
#define L4_NAT_FOR_EVER		(~0ULL)
#define L4_NAT_NEWS		4096	/* flows made last that are remembered: those of 40 ms at 100,000/s */
#define L4_NAT_LEASE_PARTIAL	1	/* an unknown flow may be a peer's: not begun without SYN, not reset */
#define L4_NAT_NO_PORT(port)	0

#ifndef L4_NAT_RESERVED_PORT
#define L4_NAT_RESERVED_PORT(port) L4_NAT_NO_PORT(port)
#endif

/* key = client address 32 (as it lies in the packet) | client port 16 (host order) | id 16;
 * the id is the service's in a forward table and in slots, the slice's in a return table */
struct l4_nat_entry4 {
	u64 key;
	u64 word;
};

struct l4_nat_bucket4 {
	struct l4_nat_entry4 entry[L4_NAT_ENTRIES];
};

/* hi, lo = client address as it lies in the packet; key = client port 16 << 16 | id 16 */
struct l4_nat_entry6 {
	u64 hi;
	u64 lo;
	u64 key;
	u64 word;
};

struct l4_nat_bucket6 {
	struct l4_nat_entry6 entry[L4_NAT_ENTRIES];
};

/* What a source port is unique in. dnat: source = 0. Zero the unused words. */
struct l4_nat_slice_key {
	u32 node[4];
	u32 source[4];
	__be16 target_port;
	u8 protocol;
	u8 family;
};

/* Slots base .. base + count - 1 are ports first_port and up. dnat: base = first_port = count = 0 */
struct l4_nat_slice {
	u32 id;			/* 1 .. 65535 */
	u32 base;
	u16 first_port;		/* host order */
	u16 count;
	u16 node;
	u16 source_index;
};

/* The same slice by id, with all that a packet needs. Written before l4_nat_slices names the id. */
struct l4_nat_slice_info {
	u32 source[4];		/* dnat: 0 */
	u32 addr[4];		/* of the node */
	__be16 target_port;
	u8 protocol;
	u8 family;
	u32 base;
	u16 first_port;
	u16 count;
	u16 node;
	u16 pad[9];		/* one line of the cache */
};

struct l4_nat_source {
	u32 addr[4];
	u32 family;
};

/* One element. sources4 / sources6: indices in l4_nat_sources that new flows may use. */
struct l4_nat_settings {
	u16 count4;
	u16 count6;
	u8 sources4[L4_NAT_POOL];
	u8 sources6[L4_NAT_POOL];
};

/*
 * One element: until when flows may be made, in nanoseconds of CLOCK_MONOTONIC. That of a group must
 * be renewed; a map that nobody has written yet permits none. It is apart from the settings, which
 * others write.
 */
struct l4_nat_lease {
	u64 until;		/* L4_NAT_FOR_EVER = no limit */
	u64 flags;		/* L4_NAT_LEASE_* */
};

/*
 * In a group: how many flows were ever made, then the hashes of the last ones, bit 31 set for IPv6 (no
 * table has so many buckets), so that peers can be told at once. read only for user space
 */
GALE_MAP("array", u32, u64, l4_nat_news, 1 + L4_NAT_NEWS, BPF_F_MMAPABLE)
/* forward flows: read only for user space */
GALE_MAP("array", u32, struct l4_nat_bucket4, l4_nat_flows4, L4_NAT_BUCKETS4, BPF_F_MMAPABLE)
/* one lock per key hash */
GALE_MAP("array", u32, u64, l4_nat_locks, L4_NAT_LOCKS, 0)
/* slice by what it is unique in; written by the plugin */
GALE_MAP("hash", struct l4_nat_slice_key, struct l4_nat_slice, l4_nat_slices, L4_NAT_MAX_SLICES, 0)
/* ids of slices that answers named lately, by a hash of their keys; written by programs */
GALE_MAP("array", u32, u32, l4_nat_recent, 1 << L4_NAT_RECENT_BITS, 0)
/* slice by id; written by the plugin, kept while a flow holds the id */
GALE_MAP("array", u32, struct l4_nat_slice_info, l4_nat_slice_ids, L4_NAT_MAX_SLICES, 0)
/* where the next search for a port begins, by slice id; written by programs */
GALE_MAP("array", u32, u64, l4_nat_cursors, L4_NAT_MAX_SLICES, 0)
/* source addresses by index; written by the plugin */
GALE_MAP("array", u32, struct l4_nat_source, l4_nat_sources, L4_NAT_SOURCES, 0)
/* written by the plugin */
GALE_MAP("array", u32, struct l4_nat_settings, l4_nat_settings, 1, 0)
/* written by the plugin: by its planner, in a group by what shares flows */
GALE_MAP("array", u32, struct l4_nat_lease, l4_nat_lease, 1, 0)
#ifdef GALE_IPV6
/* forward flows of IPv6: read only for user space */
GALE_MAP("array", u32, struct l4_nat_bucket6, l4_nat_flows6, L4_NAT_BUCKETS6, BPF_F_MMAPABLE)
#endif
#ifdef L4_NAT_DNAT
/* the way back in dnat: entries keyed by client and slice */
GALE_MAP("array", u32, struct l4_nat_bucket4, l4_nat_returns4, L4_NAT_BUCKETS4, BPF_F_MMAPABLE)
#ifdef GALE_IPV6
GALE_MAP("array", u32, struct l4_nat_bucket6, l4_nat_returns6, L4_NAT_BUCKETS6, BPF_F_MMAPABLE)
#endif
#else
/* the way back in full_nat: one slot per source port, of the forward entry's form */
GALE_MAP("array", u32, struct l4_nat_entry4, l4_nat_ports4, L4_NAT_PORT_SLOTS4, BPF_F_MMAPABLE)
#ifdef GALE_IPV6
GALE_MAP("array", u32, struct l4_nat_entry6, l4_nat_ports6, L4_NAT_PORT_SLOTS6, BPF_F_MMAPABLE)
#endif
#endif

#endif
