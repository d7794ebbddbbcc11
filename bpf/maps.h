/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Maps of the pipeline. GALE_MAP lines are rewritten by galelb/bpf/compose.py to bcc tables. */
#ifndef GALELB_MAPS_H
#define GALELB_MAPS_H

/* GALE_MAP(type, key, leaf, name, entries, flags): one line each, literal or #defined sizes. */

/* services by id; written by the control plane */
GALE_MAP("array", u32, struct gale_service, gale_services, GALE_MAX_SERVICES, 0)
/* nodes by index; written by the control plane */
GALE_MAP("array", u32, struct gale_node, gale_nodes, GALE_MAX_NODES, 0)
/* nodes' indices by address, to tell when a node is the client; written by the control plane */
GALE_MAP("hash", struct gale_address, u32, gale_node_addresses, GALE_MAX_NODES, 0)
/* a bit for the hash of each of these addresses, which tells of nearly all clients that they are no nodes */
GALE_MAP("array", u32, u64, gale_node_filter, GALE_NODE_FILTER_WORDS, 0)
/* next hops by index; written by the control plane */
GALE_MAP("array", u32, struct gale_next_hop, gale_next_hops, GALE_MAX_NEXT_HOPS, 0)
/* (interface, MAC) -> next hop index; written by the control plane */
GALE_MAP("hash", struct gale_next_hop_key, u32, gale_next_hop_index, GALE_MAX_NEXT_HOPS, 0)
/* all lookup tables, side by side; written by the control plane through mmap */
GALE_MAP("array", u32, struct gale_slots, gale_slots, GALE_MAX_SLOTS, BPF_F_MMAPABLE)
/* service id * GALE_REASONS + reason -> packets, bytes; id 0 = no service */
GALE_MAP("percpu_array", u32, struct gale_counter, gale_service_stats, GALE_MAX_SERVICES * GALE_REASONS, 0)
/* node index -> packets, bytes sent to it */
GALE_MAP("percpu_array", u32, struct gale_counter, gale_node_stats, GALE_MAX_NODES, 0)
/* events for the control plane; size in bytes */
GALE_MAP("ringbuf", u32, struct gale_event, gale_events, GALE_EVENT_BYTES, 0)
/* the way that clients' packets came, for hosts whose kernel does not forward */
GALE_MAP("lru_hash", struct gale_client_key, struct gale_next_hop, gale_client_ways, GALE_MAX_CLIENTS, 0)
/* room beside the stack */
GALE_MAP("percpu_array", u32, struct gale_scratch, gale_scratch, 1, 0)
/* first fragments, for the later ones */
GALE_MAP("lru_hash", struct gale_fragment_key, struct gale_fragment, gale_fragments, GALE_MAX_FRAGMENTS, 0)
#ifdef GALE_OWN_MACS
/* our interfaces' MAC addresses by ifindex % GALE_OWN_MACS; written by the control plane */
GALE_MAP("array", u32, struct gale_own_mac, gale_own_macs, GALE_OWN_MACS, 0)
#endif
#ifdef GALE_SERVICE_MAP
/* service ids by VIP, port, protocol, VLAN; written by the control plane */
GALE_MAP("hash", struct gale_service_key, u32, gale_service_keys, GALE_MAX_SERVICES * 2, 0)
#endif

#endif
