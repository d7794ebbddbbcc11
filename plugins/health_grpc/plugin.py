# SPDX-License-Identifier: Apache-2.0
"""The health source: a gRPC server on the private interface that nodes report to."""

from __future__ import annotations

import errno
import resource
from collections import Counter
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Annotated, Any, Self

import structlog
import trio
from galelb_plugins.health_grpc.access import Access, load_access
from galelb_plugins.health_grpc.protocol import GET_CONFIG, REPORT, SOURCE, config_for_nodes
from galelb_plugins.health_grpc.reports import Reports, Versions
from galelb_plugins.health_grpc.standard import StandardHealth
from pydantic import Field, model_validator

from galelb import forwarder
from galelb.config.problems import KeyProblemError
from galelb.config.types import Folder
from galelb.durations import Duration
from galelb.errors import GaleError
from galelb.grpc.call import Call
from galelb.grpc.framing import CallError, StatusCode
from galelb.grpc.limits import LinkLimits
from galelb.grpc.server import Handler, Server, ServerLimits, unary
from galelb.grpc.tls import FileProblemError
from galelb.health import HealthSettings
from galelb.model import IPAddress
from galelb.sources import BalancerContext, HealthSource

if TYPE_CHECKING:
    from galelb.config import BalancerConfig

__all__ = ["HealthGrpc", "Options"]

log = structlog.get_logger(__name__)

_BIND_TRIES = 20
_BIND_PAUSE_S = 0.15
_USUAL_CONNECTIONS = 32
_STREAMS_PER_CONNECTION = 64
_TIME_SHARE = 0.2
_TIME_BURST_S = 1.0
_SILENT_TIMEOUTS = 3
"""A stream without a report for this many `checks_timeout` is ended: nobody needs it."""
_STALL_S = 0.5
"""Waking up this much too late means that this process was stopped."""
_SPARE_FILES = 1024
"""Open files beside the connections: maps, sockets of the API, logs."""


class Options(forwarder.Options):
    """`[plugins.health_grpc]`."""

    tls_cert: Folder | None = None
    """PEM file: the balancer's certificate, for TLS; the chain may follow it."""
    tls_key: Folder | None = None
    """PEM file: the key of `tls_cert`, without a password."""
    tls_client_ca: Folder | None = None
    """PEM file: the authorities that sign certificates of nodes; others may not connect."""
    token_file: Folder | None = None
    """File with a secret of 16 characters or more that nodes must show; instead of TLS."""
    max_connections: Annotated[int, Field(ge=1, le=65536)] = 4096
    """Connections of all nodes together."""
    max_connections_per_address: Annotated[int, Field(ge=1, le=65536)] = 32
    """Connections of one node; its share of the time, 20 % for 32 of them, grows along."""
    max_streams_per_address: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Streams of reports of one node; 64 per connection when left out."""
    keepalive_interval: Annotated[Duration, Field(gt=0)] = 5.0
    """Silence after which a connection is probed with a PING."""
    keepalive_timeout: Annotated[Duration, Field(gt=0)] = 5.0
    """A connection whose PING is not answered for this long is closed."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        files = {k: getattr(self, k) for k in ("tls_cert", "tls_key", "tls_client_ca")}
        if any(files.values()):
            for key, path in files.items():
                if path is None:
                    raise KeyProblemError("tls_cert, tls_key and tls_client_ca go together", key)
            if self.token_file is not None:
                text = "not beside tls_*: certificates say who may connect"
                raise KeyProblemError(text, "token_file")
        try:
            self.access()
        except FileProblemError as error:
            raise KeyProblemError(str(error), error.key) from None
        return self

    @property
    def most_streams(self) -> int:
        """Streams that one address may have."""
        per_connection = _STREAMS_PER_CONNECTION * self.max_connections_per_address
        return self.max_streams_per_address or per_connection

    @property
    def many_per_address(self) -> float:
        """How much more than usual an address may do; 1 = as usual."""
        return max(1.0, self.max_connections_per_address / _USUAL_CONNECTIONS)

    def access(self) -> Access:
        """Read the files. Raises FileProblemError."""
        return load_access(self.tls_cert, self.tls_key, self.tls_client_ca, self.token_file)


class HealthGrpc(HealthSource):
    """Serves `GetConfig` and `ReportHealthStatus`; a node is known by its remote address."""

    name = SOURCE
    Options = Options

    def __init__(self, options: Any, context: BalancerContext) -> None:
        super().__init__(options, context)
        self._streams: Counter[IPAddress] = Counter()
        self._talks: set[Reports] = set()
        self._versions = Versions(context.node_setups)
        self._settings = _settings(context.config)
        self._access: Access = options.access()
        limits = ServerLimits(
            link=LinkLimits(
                max_streams=_STREAMS_PER_CONNECTION * _USUAL_CONNECTIONS,
                keepalive_interval=options.keepalive_interval,
                keepalive_timeout=options.keepalive_timeout,
            ),
            max_connections=options.max_connections,
            max_connections_per_address=options.max_connections_per_address,
            max_calls_per_address=2 * options.most_streams,
            time_share=min(1.0, _TIME_SHARE * options.many_per_address),
            time_burst=_TIME_BURST_S * options.many_per_address,
        )
        self.server = Server(
            {
                GET_CONFIG: self._guarded(unary(self._get_config)),
                REPORT: self._guarded(self._take_reports),
                **StandardHealth(context).handlers(),
            },
            limits,
        )
        self.server.tls = self._access.tls

    def reload(self, options: Any, config: BalancerConfig) -> None:
        """Use other settings; certificates and tokens are read again, for new connections."""
        self._settings = _settings(config)
        try:
            self._access = options.access()
        except FileProblemError as error:  # changed since the file was checked
            log.error("health_grpc_keeps_old_secrets", reason=str(error))  # noqa: TRY400
            return
        self.options = options
        self.server.tls = self._access.tls
        self._warn()

    def notes(self) -> list[str]:
        """Return what `galelb status` should say."""
        return [self._access.warning] if self._access.warning else []

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
        log.info(
            "health_grpc_listening",
            interface=interface,
            port=port,
            security=self._access.kind,
        )
        self._warn()
        _allow_open_files(self.options.max_connections + _SPARE_FILES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_silent_streams)
            await nursery.start(self.server.serve, listeners)
            task_status.started()

    def _warn(self) -> None:
        if self._access.warning:
            log.warning("health_grpc_access", text=self._access.warning)

    def _guarded(self, handler: Handler) -> Handler:
        async def handle(call: Call, peer: IPAddress) -> None:
            try:
                self._access.check(call)
            except CallError as error:
                self.server.refuse(peer, error.message)
                raise
            await handler(call, peer)

        return handle

    def _get_config(self, request: bytes, peer: IPAddress) -> bytes:
        del request, peer
        return config_for_nodes(self._settings, self.context.node_setups())

    async def _take_reports(self, call: Call, peer: IPAddress) -> None:
        if self._streams[peer] >= self.options.most_streams:
            raise CallError(StatusCode.RESOURCE_EXHAUSTED, "too many streams from this address")
        self._streams[peer] += 1
        if self._streams[peer] == 1:
            log.info("node_stream_opened", node=str(peer))
        talk = Reports(call, peer, self.context, self._versions, trio.current_time())
        self._talks.add(talk)
        why = "broke off"
        try:
            await talk.run()
            why = "the node hung up"
        except CallError as error:
            why = error.message or error.code.name
            raise
        except trio.Cancelled:  # we stop, the node did not: its state must survive our restart
            why = ""
            raise
        finally:
            self._talks.discard(talk)
            self._leave(peer, why)

    async def _end_silent_streams(self) -> None:
        """End streams that have had no report for long: they only take places from others."""
        while True:
            longest = _SILENT_TIMEOUTS * self._settings.checks_timeout
            wakes_at = trio.current_time() + longest / 4
            await trio.sleep_until(wakes_at)
            now = trio.current_time()
            if now > wakes_at + _STALL_S:
                continue  # this process did not run: what nodes said meanwhile is yet to be read
            text = f"no report for {longest:g} s"
            for talk in [talk for talk in self._talks if talk.heard_at <= now - longest]:
                talk.end(CallError(StatusCode.DEADLINE_EXCEEDED, text))

    def _leave(self, peer: IPAddress, why: str) -> None:
        """Forget a stream; the node is gone with its last one."""
        self._streams[peer] -= 1
        if self._streams[peer] <= 0:
            del self._streams[peer]
            if why:
                log.info("node_stream_closed", node=str(peer), reason=why)
                self.context.node_gone(SOURCE, peer, f"its connection ended: {why}")


def _settings(config: BalancerConfig) -> HealthSettings:
    section = config.node_health
    return HealthSettings(
        checks_before_routing=section.checks_before_routing,
        checks_timeout=section.checks_timeout,
        black_list_after_fails=section.black_list_after_fails,
        black_list_expiry=section.black_list_expiry,
    )


def _allow_open_files(wanted: int) -> None:
    """Raise the soft limit of open files towards the hard one; 1,024 is the usual default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < wanted:
        log.warning(
            "few_open_files",
            limit=most,
            wanted=wanted,
            hint="raise LimitNOFILE of the service, or lower max_connections",
        )


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
