# SPDX-License-Identifier: Apache-2.0
"""The health source: a gRPC server on the private interface that nodes report to."""

from __future__ import annotations

import errno
from collections import Counter
from ipaddress import IPv6Address
from typing import Annotated, Any

import structlog
import trio
from galelb_plugins.health_grpc.protocol import (
    GET_CONFIG,
    REPORT,
    SOURCE,
    answer_to,
    config_for_nodes,
    config_version,
    report_from,
)
from pydantic import Field

from galelb import forwarder
from galelb.durations import Duration
from galelb.errors import GaleError
from galelb.grpc.call import Call
from galelb.grpc.framing import CallError, StatusCode
from galelb.grpc.limits import Budget, LinkLimits
from galelb.grpc.server import Server, ServerLimits, unary
from galelb.health import HealthSettings
from galelb.model import IPAddress
from galelb.sources import BalancerContext, HealthSource

__all__ = ["HealthGrpc", "Options"]

log = structlog.get_logger(__name__)

_REPORTS_PER_S = 20.0
"""Per stream, averaged over 10 s; a node that is faster has to wait."""
_BIND_TRIES = 20
_BIND_PAUSE_S = 0.15


class Options(forwarder.Options):
    """`[plugins.health_grpc]`."""

    max_connections: Annotated[int, Field(ge=1, le=65536)] = 4096
    """Connections of all nodes together."""
    max_connections_per_address: Annotated[int, Field(ge=1, le=65536)] = 32
    """Connections of one node."""
    keepalive_interval: Annotated[Duration, Field(gt=0)] = 5.0
    """Silence after which a connection is probed with a PING."""
    keepalive_timeout: Annotated[Duration, Field(gt=0)] = 5.0
    """A connection whose PING is not answered for this long is closed."""


class HealthGrpc(HealthSource):
    """Serves `GetConfig` and `ReportHealthStatus`; a node is known by its remote address."""

    name = SOURCE
    Options = Options

    def __init__(self, options: Any, context: BalancerContext) -> None:
        super().__init__(options, context)
        self._streams: Counter[IPAddress] = Counter()
        section = context.config.node_health
        self._settings = HealthSettings(
            checks_before_routing=section.checks_before_routing,
            checks_timeout=section.checks_timeout,
            black_list_after_fails=section.black_list_after_fails,
            black_list_expiry=section.black_list_expiry,
        )
        limits = ServerLimits(
            link=LinkLimits(
                keepalive_interval=options.keepalive_interval,
                keepalive_timeout=options.keepalive_timeout,
            ),
            max_connections=options.max_connections,
            max_connections_per_address=options.max_connections_per_address,
        )
        self.server = Server(
            {GET_CONFIG: unary(self._get_config), REPORT: self._take_reports}, limits
        )

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Listen on every private address, then serve until cancelled.

        Raises:
            GaleError: `node_port` cannot be used.
        """
        section = self.context.config.private_interface
        interface, port = section.net_interface_private, section.node_port
        if not self.context.private_addresses:
            raise GaleError(
                f"interface {interface} has no address for nodes to connect to; give it one"
            )
        listeners: list[trio.SocketListener] = []
        for address in self.context.private_addresses:
            listeners += await _listen(address, port, interface)
        log.info("health_grpc_listening", interface=interface, port=port)
        async with trio.open_nursery() as nursery:
            await nursery.start(self.server.serve, listeners)
            task_status.started()

    def _get_config(self, request: bytes, peer: IPAddress) -> bytes:
        del request, peer
        return config_for_nodes(self._settings, self.context.node_setups())

    async def _take_reports(self, call: Call, peer: IPAddress) -> None:
        self._streams[peer] += 1
        log.info("node_stream_opened", node=str(peer))
        why = "broke off"
        try:
            why = await self._conversation(call, peer)
        except CallError as error:
            why = error.message or error.code.name
            raise
        except trio.Cancelled:  # we stop, the node did not: its state must survive our restart
            why = ""
            raise
        finally:
            self._leave(peer, why)

    def _leave(self, peer: IPAddress, why: str) -> None:
        """Forget a stream; the node is gone with its last one."""
        self._streams[peer] -= 1
        if self._streams[peer] <= 0:
            del self._streams[peer]
            if why:
                log.info("node_stream_closed", node=str(peer), reason=why)
                self.context.node_gone(SOURCE, peer, f"its connection ended: {why}")

    async def _conversation(self, call: Call, peer: IPAddress) -> str:
        """Take reports until the node ends its stream; returns why that ended."""
        budget = Budget(_REPORTS_PER_S)
        while (payload := await call.receive()) is not None:
            report = report_from(payload, peer)
            try:
                record = self.context.report(report)
            except GaleError as error:
                raise CallError(StatusCode.RESOURCE_EXHAUSTED, str(error)) from None
            # A node that does not read misses answers, but its reports still count.
            version = config_version(self.context.node_setups())
            call.send_nowait(answer_to(report, record, version))
            if not budget.spend(trio.current_time()):
                await trio.sleep(1 / _REPORTS_PER_S)
        return "the node hung up"


async def _listen(address: IPAddress, port: int, interface: str) -> list[trio.SocketListener]:
    local = isinstance(address, IPv6Address) and address.is_link_local
    host = f"{address}%{interface}" if local else str(address)
    for tries_left in reversed(range(_BIND_TRIES)):
        try:
            return await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            # A new IPv6 address cannot be bound before duplicate address detection is over.
            if error.errno == errno.EADDRNOTAVAIL and address.version == 6 and tries_left:
                await trio.sleep(_BIND_PAUSE_S)
                continue
            raise GaleError(
                f"node_port {port} on {address}: {error.strerror or error}; "
                "is another program, or another balancer, listening there?"
            ) from error
    raise AssertionError("unreachable")
