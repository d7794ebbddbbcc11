# SPDX-License-Identifier: Apache-2.0
"""Fakes for tests: a balancer that exists only as values."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import attrs
import trio

from galelb.api.events import EventLog
from galelb.api.paging import page_of
from galelb.api.view import (
    CaptureWish,
    ConfigStatus,
    Count,
    FlowKey,
    FlowPage,
    GroupStatus,
    InterfaceStatus,
    NodeStatus,
    PeerStatus,
    PluginStatus,
    ServiceStatus,
    Status,
    UnknownNodeError,
)
from galelb.errors import GaleError
from galelb.model import (
    Flow,
    HealthWord,
    IPAddress,
    Metric,
    Node,
    NodeRecord,
    NodeState,
    Protocol,
    Service,
    XdpMode,
)

__all__ = ["BROKEN", "ENDLESS", "FakeBalancer"]

ENDLESS = b"..."
"""As the last of `FakeBalancer.capture_parts`: a part that never comes."""
BROKEN = b"!!!"
"""The same, but the capture fails."""
STARTED_AT = 1_700_000_000.0  # 2023-11-14T22:13:20Z


def _node(last: int, name: str, state: NodeState, index: int, **more: Any) -> NodeStatus:
    record = NodeRecord(
        node=Node(address=IPv4Address(f"10.0.0.{last}"), name=name),
        state=state,
        reports=3,
        neighbour=f"02:00:00:00:00:{last:02x}",
    )
    record = attrs.evolve(record, **more)
    return NodeStatus(
        record=record,
        index=index,
        count=Count(1000 * index, 640_000 * index),
        unroutable=_unroutable(record),
        words=_words(record),
    )


def _words(record: NodeRecord) -> tuple[HealthWord, ...]:
    """Return what the node said last; nothing if it is silent."""
    if record.state is NodeState.DOWN:
        return ()
    word, message = ("shutting down", "upgrade") if record.draining else ("serving", "")
    return (HealthWord(source="health_grpc", word=word, message=message, age_s=0.5),)


def _unroutable(record: NodeRecord) -> str:
    if record.takes_new_flows:
        return ""
    return "drained by the operator" if record.draining else record.reason or record.state.value


def _nodes() -> list[NodeStatus]:
    return [
        _node(11, "web-1", NodeState.ROUTABLE, 1),
        _node(12, "web-2", NodeState.ROUTABLE, 2, draining=True),
        _node(13, "web-3", NodeState.DOWN, 3, reason="no report for 5 s", failures=1),
    ]


def _services() -> list[ServiceStatus]:
    web = Service(
        name="web",
        vip=IPv4Address("192.0.2.10"),
        port=80,
        protocol=Protocol.TCP,
        target_port=8080,
        forwarder="l4_nat",
    )
    dns = Service(
        name="dns",
        vip=IPv6Address("2001:db8::53"),
        port=53,
        protocol=Protocol.UDP,
        target_port=53,
        forwarder="l4_nat",
        scheduler="ring",
    )
    return [
        ServiceStatus(
            service=web,
            id=1,
            table_digest="5f1c0a9e77aa41d2",
            routable_nodes=1,
            count=Count(6000, 3_840_000),
            drops={"no_neighbour": Count(4, 256)},
        ),
        ServiceStatus(service=dns, id=2, drops={"no_node": Count(17, 1_190)}),
    ]


def _flows() -> list[Flow]:
    return [
        Flow(
            service="web",
            protocol=Protocol.TCP,
            client=IPv4Address(f"198.51.100.{7 + n % 2}"),
            client_port=40_000 + n,
            node=IPv4Address(f"10.0.0.{11 + n % 2}"),
            source=IPv4Address("10.0.0.1"),
            source_port=20_000 + n,
            state="established",
            idle_s=float(n),
        )
        for n in range(5)
    ]


@attrs.define
class _FakeCapture:
    _parts: list[bytes]

    async def read(self) -> bytes | None:
        """Return the next part; see ENDLESS and BROKEN."""
        await trio.lowlevel.checkpoint()
        if self._parts == [ENDLESS]:
            await trio.sleep_forever()
        if self._parts == [BROKEN]:
            raise GaleError("the capture ended")
        return self._parts.pop(0) if self._parts else None


@attrs.define
class FakeBalancer:
    """A `galelb.api.view.BalancerView` whose every answer a test may set."""

    not_ready: str = ""
    node_list: list[NodeStatus] = attrs.Factory(_nodes)
    service_list: list[ServiceStatus] = attrs.Factory(_services)
    flow_list: list[Flow] = attrs.Factory(_flows)
    peer_list: list[PeerStatus] = attrs.Factory(list)
    group_status: GroupStatus | None = None
    metric_list: list[Metric] = attrs.Factory(list)
    events: EventLog = attrs.Factory(EventLog)
    capture_parts: list[bytes] = attrs.Factory(list)
    """What a capture gives; then it is over."""
    wishes: list[CaptureWish] = attrs.Factory(list)
    """The captures that were asked for."""
    captures: int = 0
    """How many go on."""
    notes: tuple[str, ...] = ()
    reasons: dict[str, Count] = attrs.Factory(
        lambda: {
            "pass_foreign": Count(120, 9_000),
            "forwarded": Count(6000, 3_840_000),
            "no_node": Count(17, 1_190),
        }
    )

    async def status(self) -> Status:
        """Return a balancer with a public interface in generic mode."""
        return Status(
            version="0.1.0",
            instance="default",
            pid=4242,
            started_at=STARTED_AT,
            uptime_s=8_043.5,
            plugins=("l4_nat", "health_grpc"),
            interfaces=(
                InterfaceStatus(name="eth0", role="private", mode=XdpMode.NATIVE, ifindex=2),
                InterfaceStatus(
                    name="eth1",
                    role="public",
                    mode=XdpMode.GENERIC,
                    reason="the driver has no native XDP",
                    ifindex=3,
                ),
            ),
            services=len(self.service_list),
            services_routable=sum(s.routable_nodes > 0 for s in self.service_list),
            nodes=len(self.node_list),
            nodes_routable=sum(n.record.takes_new_flows for n in self.node_list),
            flows=len(self.flow_list),
            reasons=self.reasons,
            notes=self.notes,
            config_digest="9b74c9897bac770f",
            adopted=True,
        )

    async def ready(self) -> str:
        """Return what the test set."""
        return self.not_ready

    async def nodes(self) -> tuple[NodeStatus, ...]:
        """Return the nodes."""
        return tuple(self.node_list)

    async def services(self) -> tuple[ServiceStatus, ...]:
        """Return the services."""
        return tuple(self.service_list)

    async def flows(
        self,
        *,
        service: str | None = None,
        node: IPAddress | None = None,
        client: IPAddress | None = None,
        state: str | None = None,
        limit: int = 100,
        offset: int = 0,
        after: FlowKey | None = None,
    ) -> FlowPage:
        """Return the flows that match."""
        found = [
            flow
            for flow in self.flow_list
            if service in (None, flow.service)
            and node in (None, flow.node)
            and client in (None, flow.client)
            and state in (None, flow.state)
        ]
        return page_of(found, limit=limit, offset=offset, after=after)

    async def peers(self) -> tuple[PeerStatus, ...]:
        """Return the peers."""
        return tuple(self.peer_list)

    async def group(self) -> GroupStatus | None:
        """Return the place in the group."""
        return self.group_status

    async def plugins(self) -> tuple[PluginStatus, ...]:
        """Return the two plugins of the status."""
        return tuple(
            PluginStatus(name=name, version="0.1.0", package="galelb", kinds=(kind,))
            for name, kind in (("l4_nat", "forwarder"), ("health_grpc", "health source"))
        )

    async def configuration(self) -> ConfigStatus:
        """Return a configuration with a secret that was replaced."""
        return ConfigStatus(
            path="lb.toml",
            digest="9b74c9897bac770f",
            settings={"instance": {"name": "default"}, "plugins": {"x": {"token": "***"}}},
            toml='[instance]\nname = "default"\n',
        )

    async def drain(self, address: IPAddress, *, on: bool) -> NodeRecord:
        """Set the node's draining."""
        return self._change(address, draining=on)

    async def set_weight(self, address: IPAddress, weight: int | None) -> NodeRecord:
        """Set the node's weight."""
        return self._change(address, operator_weight=weight)

    async def metrics(self) -> Sequence[Metric]:
        """Return the metrics."""
        return tuple(self.metric_list)

    @asynccontextmanager
    async def capture(self, wish: CaptureWish) -> AsyncIterator[_FakeCapture]:
        """Give `capture_parts`; one at a time, as the real one."""
        if self.captures:
            raise GaleError("there is a capture already")
        self.wishes.append(wish)
        self.captures += 1
        try:
            yield _FakeCapture(list(self.capture_parts))
        finally:
            self.captures -= 1

    def _change(self, address: IPAddress, **changes: Any) -> NodeRecord:
        for position, status in enumerate(self.node_list):
            if status.record.node.address == address:
                record = attrs.evolve(status.record, **changes)
                self.node_list[position] = attrs.evolve(
                    status, record=record, unroutable=_unroutable(record)
                )
                return record
        raise UnknownNodeError(str(address), [str(n.record.node.address) for n in self.node_list])
