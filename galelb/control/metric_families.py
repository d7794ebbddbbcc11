# SPDX-License-Identifier: Apache-2.0
"""Every metric of the core; the reference is made from this list, plugins add their own."""

from __future__ import annotations

from galelb.metrics import MetricFamily

__all__ = ["FAMILIES"]

# traffic
PACKETS = MetricFamily(
    name="galelb_packets_total",
    help="Packets by service (empty = of none), by reason, and by what so became of them: "
    "forwarded, returned, answered, passed to the kernel, or dropped.",
    kind="counter",
    labels=("service", "reason", "outcome"),
)
BYTES = MetricFamily(
    name="galelb_bytes_total",
    help="Bytes of whole frames, as galelb_packets_total.",
    kind="counter",
    labels=("service", "reason", "outcome"),
)
NODE_PACKETS = MetricFamily(
    name="galelb_node_packets_total",
    help="Packets to a node.",
    kind="counter",
    labels=("node",),
)
NODE_BYTES = MetricFamily(
    name="galelb_node_bytes_total",
    help="Bytes of whole frames to a node.",
    kind="counter",
    labels=("node",),
)
FLOWS = MetricFamily(
    name="galelb_flows",
    help="Tracked connections, as of the last walk through the tables.",
    labels=("forwarder",),
)
FLOWS_CARRIED = MetricFamily(
    name="galelb_flows_carried_total",
    help="Connections brought to tables of another size or form by a restart or a reload: added, "
    "refused (no room, or a newer one has their port), waiting (node or service not known); "
    "failed counts the times that none could be read.",
    kind="counter",
    labels=("forwarder", "result"),
)

# nodes
NODE_INFO = MetricFamily(
    name="galelb_node_info",
    help="1; joins a node's name to its address.",
    labels=("node", "name", "static"),
)
NODE_STATE = MetricFamily(
    name="galelb_node_state",
    help="1 for the state that the node is in, 0 for the others.",
    labels=("node", "state"),
)
NODE_ROUTABLE = MetricFamily(
    name="galelb_node_takes_new_flows",
    help="1 if lookup tables may name the node.",
    labels=("node",),
)
NODE_DRAINING = MetricFamily(
    name="galelb_node_draining", help="1 if the node drains.", labels=("node",)
)
NODE_WEIGHT = MetricFamily(
    name="galelb_node_weight",
    help="What lookup tables go by: 0 without new flows, less while it starts or is busy.",
    labels=("node",),
)
NODE_FAILURES = MetricFamily(
    name="galelb_node_failures",
    help="Falls from routable that are not forgiven yet.",
    labels=("node",),
)
REPORT_DURATION = MetricFamily(
    name="galelb_health_report_duration_seconds",
    help="Time from a health report's arrival until it is applied and everybody told.",
    kind="histogram",
    labels=("source",),
)

# services and lookup tables
ROUTABLE_NODES = MetricFamily(
    name="galelb_service_routable_nodes",
    help="Nodes in the service's lookup table.",
    labels=("service",),
)
TABLE_SLOTS = MetricFamily(
    name="galelb_lookup_table_slots",
    help="Size of the service's lookup table; 0 while it has none.",
    labels=("service",),
)
TABLE_CHANGES = MetricFamily(
    name="galelb_lookup_table_changes_total",
    help="How often a service got another lookup table.",
    kind="counter",
    labels=("service",),
)
TABLE_MOVED = MetricFamily(
    name="galelb_lookup_table_moved_ratio",
    help="Share of slots that the last change of the service's table moved to another node.",
    labels=("service",),
)
TABLE_BUILD_DURATION = MetricFamily(
    name="galelb_lookup_table_build_duration_seconds",
    help="Time that it takes to build a lookup table.",
    kind="histogram",
    labels=("scheduler",),
)
PLAN_DURATION = MetricFamily(
    name="galelb_plan_duration_seconds",
    help="Time from a change of nodes, weights or next hops until all maps hold it.",
    kind="histogram",
)
PLAN_FAILURES = MetricFamily(
    name="galelb_plan_failures_total",
    help="Plans that could not be written to maps; the next one makes up for it.",
    kind="counter",
)

# the balancer
BUILD_INFO = MetricFamily(
    name="galelb_build_info", help="1; which software runs.", labels=("version", "python", "kernel")
)
CONFIG_INFO = MetricFamily(
    name="galelb_config_info",
    help="1; the digest of the configuration that all balancers of a group must share.",
    labels=("digest",),
)
CONFIG_SUCCESS = MetricFamily(
    name="galelb_config_last_reload_successful",
    help="1 if the last configuration that was given is in force, 0 if it was refused.",
)
CONFIG_TIME = MetricFamily(
    name="galelb_config_last_reload_success_timestamp_seconds",
    help="Since when the configuration is in force.",
)
READY = MetricFamily(name="galelb_ready", help="1 if clients can be served.")
INTERFACE = MetricFamily(
    name="galelb_interface_attached",
    help="1 if programs are attached to the interface; mode is native, generic, tc or empty.",
    labels=("interface", "role", "mode"),
)
PEER_ALIVE = MetricFamily(
    name="galelb_peer_alive", help="1 if another balancer of the group is heard.", labels=("peer",)
)
GROUP_STANDING = MetricFamily(
    name="galelb_group_standing",
    help="1 for what this balancer is to its group: forming, quorate or cut off.",
    labels=("standing",),
)
GROUP_BALANCERS = MetricFamily(
    name="galelb_group_balancers",
    help="Balancers of the group: configured ones, and those that live and count.",
    labels=("which",),
)
GROUP_READY = MetricFamily(
    name="galelb_group_ready", help="1 if this balancer may have addresses of the group."
)
GROUP_ADDRESSES = MetricFamily(
    name="galelb_group_addresses",
    help="Addresses that this balancer has now: VIPs, its own translation addresses, those that "
    "it inherited from balancers that are gone, and gateways of nodes.",
    labels=("kind",),
)
COPY_LAG = MetricFamily(
    name="galelb_peer_copy_lag_seconds",
    help="How far a peer's copy of this balancer's connections is behind.",
    labels=("peer",),
)
COPY_BEHIND = MetricFamily(
    name="galelb_copy_behind_seconds",
    help="How far this balancer's copy of a peer's connections is behind.",
    labels=("peer",),
)
COPY_COMPLETE = MetricFamily(
    name="galelb_copy_complete",
    help="1 if all connections of a peer have been copied once.",
    labels=("peer",),
)
SHARED_FLOWS = MetricFamily(
    name="galelb_shared_flows_total",
    help="Connections that peers sent: added, updated, known (nothing new), waiting (for their "
    "node or service), refused (no room, or a newer one has their port); batches that were "
    "skipped (no such forwarder here), or failed.",
    kind="counter",
    labels=("result",),
)
SHARED_BYTES = MetricFamily(
    name="galelb_shared_bytes_total",
    help="Bytes of connections that were sent to peers.",
    kind="counter",
)
SHARING_REFUSED = MetricFamily(
    name="galelb_sharing_refused_total",
    help="Streams for sharing connections that were refused or broken off, by reason.",
    kind="counter",
    labels=("reason",),
)
EVENTS = MetricFamily(
    name="galelb_events_total",
    help="What happened, by the name that the API's events have.",
    kind="counter",
    labels=("event",),
)
EVENT_STREAMS = MetricFamily(name="galelb_api_event_streams", help="Clients that read events.")
CAPTURING = MetricFamily(name="galelb_capture_running", help="1 while somebody captures packets.")
LOOP_LAG = MetricFamily(
    name="galelb_event_loop_lag_seconds",
    help="How late the balancer's own work runs, looked at four times a second.",
    kind="histogram",
)

FAMILIES: tuple[MetricFamily, ...] = tuple(
    one for one in list(globals().values()) if isinstance(one, MetricFamily)
)
"""All of them, in the order of this file."""
