# SPDX-License-Identifier: Apache-2.0
"""Turn what the API shows into JSON objects; the shapes are documented and stable."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Literal, cast

import attrs

from galelb.api import shapes
from galelb.api.events import Event
from galelb.api.paging import cursor_text
from galelb.api.view import (
    ConfigStatus,
    Count,
    FlowPage,
    GroupStatus,
    InterfaceStatus,
    NodeStatus,
    PeerStatus,
    PluginStatus,
    ServiceStatus,
    Status,
)
from galelb.health.weights import FULL
from galelb.model import Flow, NodeRecord

__all__ = [
    "config_json",
    "event_json",
    "events_json",
    "flow_json",
    "flows_json",
    "history_json",
    "node_json",
    "peer_json",
    "plugin_json",
    "record_json",
    "service_json",
    "status_json",
]

_Protocol = Literal["tcp", "udp"]
_WeightFrom = Literal["operator", "node", "config", "default"]
_Standing = Literal["forming", "quorate", "cut off"]
_Role = Literal["public", "private", "both", "extra"]


def status_json(status: Status, not_ready: str) -> shapes.Status:
    """Return GET /v1/status; `not_ready` is why it does not serve clients, "" when it does."""
    return {
        "ready": not not_ready,
        "not_ready_reason": not_ready,
        "version": status.version,
        "instance": status.instance,
        "pid": status.pid,
        "started_at": _timestamp(status.started_at),
        "uptime_s": round(status.uptime_s, 3),
        "adopted": status.adopted,
        "config_digest": status.config_digest,
        "plugins": list(status.plugins),
        "interfaces": [_interface_json(interface) for interface in status.interfaces],
        "services": {"total": status.services, "routable": status.services_routable},
        "nodes": {"total": status.nodes, "routable": status.nodes_routable},
        "flows": status.flows,
        "reasons": _counts_json(status.reasons),
        "event_loop_lag_s": round(status.event_loop_lag_s, 6),
        "notes": list(status.notes),
    }


def record_json(record: NodeRecord) -> shapes.NodeChange:
    """Return a node as the balancer keeps it; the answer to every change of a node."""
    return {
        "address": str(record.node.address),
        "name": record.node.name,
        "state": record.state.value,
        "reason": record.reason,
        "draining": record.draining,
        "weight": record.weight,
        "own_weight": record.node.weight,
        "operator_weight": record.operator_weight,
        "effective_weight": _rounded(record.effective_weight if record.takes_new_flows else 0),
        "weight_reason": _weight_reason(record),
        "start_share": record.start_share,
        "load_share": record.load_share,
        "static": record.node.static,
        "neighbour": record.neighbour,
        "failures": record.failures,
        "reports": record.reports,
        "takes_new_flows": record.takes_new_flows,
    }


def node_json(node: NodeStatus) -> shapes.Node:
    """Return one element of GET /v1/nodes."""
    return {
        **record_json(node.record),
        "index": node.index,
        "weight_from": cast("_WeightFrom", node.weight_from),
        "load": None if node.load is None else round(node.load, 2),
        "effective_weight": 0 if node.unroutable else _rounded(node.record.effective_weight),
        # A forwarder may refuse a node that looks fine to everyone else.
        "takes_new_flows": node.record.takes_new_flows and not node.unroutable,
        "unroutable_reason": node.unroutable,
        "health": [cast("shapes.Word", attrs.asdict(word)) for word in node.words],
        **_count_json(node.count),
    }


def _rounded(weight: float) -> float:
    """Return a weight without digits that nobody meant; whole numbers stay whole."""
    return round(weight, 4)


def _weight_reason(record: NodeRecord) -> str:
    shares = {"slow start": record.start_share, "load": record.load_share}
    return ", ".join(f"{what} {share} %" for what, share in shares.items() if share < FULL)


def service_json(status: ServiceStatus) -> shapes.Service:
    """Return one element of GET /v1/services."""
    service = status.service
    return {
        "name": service.name,
        "id": status.id,
        "vip": str(service.vip),
        "port": service.port,
        "protocol": cast("_Protocol", service.protocol.name.lower()),
        "target_port": service.target_port,
        "forwarder": service.forwarder,
        "scheduler": service.scheduler,
        "vlan": service.vlan,
        "nodes": [str(address) for address in service.nodes],
        "routable_nodes": status.routable_nodes,
        "table_digest": status.table_digest,
        **_count_json(status.count),
        "drops": _counts_json(status.drops),
    }


def flows_json(page: FlowPage, *, limit: int, offset: int) -> shapes.Flows:
    """Return GET /v1/flows."""
    return {
        "flows": [flow_json(flow) for flow in page.flows],
        "total": page.total,
        "limit": limit,
        "offset": offset,
        "cursor": None if page.next is None else cursor_text(page.next),
    }


def flow_json(flow: Flow) -> shapes.Flow:
    """Return one tracked connection."""
    return {
        "service": flow.service,
        "protocol": cast("_Protocol", flow.protocol.name.lower()),
        "client": str(flow.client),
        "client_port": flow.client_port,
        "node": str(flow.node),
        "source": str(flow.source),
        "source_port": flow.source_port,
        "state": flow.state,
        "idle_s": round(flow.idle_s, 3),
    }


def peer_json(status: PeerStatus) -> shapes.Peer:
    """Return one other balancer."""
    return {
        "name": status.peer.name,
        "address": str(status.peer.address),
        "port": status.peer.port,
        "alive": status.peer.alive,
        "left": status.peer.left,
        "ready": status.ready,
        "version": status.version,
        "config_digest": status.config_digest,
        "same_config": status.same_config,
        "tables_digest": status.tables_digest,
        "same_tables": status.same_tables,
        "last_seen_s": _seconds(status.last_seen_s),
        "lag_s": _seconds(status.lag_s),
        "copy_behind_s": _seconds(status.copy_behind_s),
        "copy_complete": status.copy_complete,
        "note": status.note,
    }


def peers_json(group: GroupStatus | None, peers: Iterable[PeerStatus]) -> shapes.Peers:
    """Return GET /v1/peers."""
    return {
        "group": None if group is None else _group_json(group),
        "peers": [peer_json(peer) for peer in peers],
    }


def _group_json(group: GroupStatus) -> shapes.Group:
    return {
        "name": group.name,
        "transport": group.transport,
        "standing": cast("_Standing", group.standing),
        "alive": group.alive,
        "configured": group.configured,
        "ready": group.ready,
        "config_digest": group.config_digest,
        "tables_digest": group.tables_digest,
        "vips": dict(group.vips),
        "sources": list(group.sources),
    }


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def plugin_json(plugin: PluginStatus) -> shapes.Plugin:
    """Return one element of GET /v1/plugins."""
    return {
        "name": plugin.name,
        "version": plugin.version,
        "package": plugin.package,
        "kinds": list(plugin.kinds),
    }


def config_json(status: ConfigStatus) -> shapes.Config:
    """Return GET /v1/config."""
    return {
        "path": status.path,
        "config_digest": status.digest,
        "settings": dict(status.settings),
        "toml": status.toml,
    }


def event_json(event: Event) -> shapes.Event:
    """Return one event; its own facts come last."""
    head: shapes.Event = {"id": event.id, "time": _timestamp(event.at), "event": event.kind}
    return cast("shapes.Event", {**head, **event.facts})


def events_json(events: Iterable[Event]) -> shapes.Events:
    """Return GET /v1/events/recent."""
    return {"events": [event_json(event) for event in events]}


def history_json(node: str, events: Iterable[Event]) -> shapes.History:
    """Return GET /v1/nodes/{node}/history."""
    return {"node": node, "history": [event_json(event) for event in events]}


def _interface_json(interface: InterfaceStatus) -> shapes.Interface:
    return {
        "name": interface.name,
        "role": cast("_Role", interface.role),
        "mode": None if interface.mode is None else interface.mode.value,
        "reason": interface.reason,
        "ifindex": interface.ifindex,
    }


def _count_json(count: Count) -> shapes.Count:
    return {"packets": count.packets, "bytes": count.bytes}


def _counts_json(counts: Mapping[str, Count]) -> dict[str, shapes.Count]:
    return {name: _count_json(count) for name, count in counts.items()}


def _timestamp(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
