# SPDX-License-Identifier: Apache-2.0
"""Gathers the facts that the checks of a balancer are made from."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

import attrs
import trio

from galelb.client import ApiClient, default_socket
from galelb.config import BalancerConfig
from galelb.control.state import load_state
from galelb.datapath.host import host_view
from galelb.datapath.interfaces import wanted_interfaces
from galelb.doctor.balancer import BalancerFacts, DaemonFacts, NodeFacts, listening
from galelb.doctor.links import gather_links
from galelb.doctor.machine import gather_machine
from galelb.errors import ApiError, ConfigError, GaleError, NetlinkError
from galelb.forwarder import HostView
from galelb.model import Interface, IPAddress, Service
from galelb.netlink import Netlink, open_netlink
from galelb.plugins import Plugins
from galelb.services import resolve_services

__all__ = ["look_at_balancer"]

_PATIENCE_S = 2.5
"""For a neighbour to answer: the kernel asks three times, a second apart."""
_MOST_NODES = 64


async def look_at_balancer(config: BalancerConfig, plugins: Plugins) -> BalancerFacts:
    """Return what is so on this machine, in this network namespace. Raises GaleError."""
    machine = await trio.to_thread.run_sync(gather_machine, config.instance.directory / "bpf")
    daemon = await trio.to_thread.run_sync(_daemon, config)
    async with open_netlink() as netlink:
        interfaces = await netlink.interfaces()
        host = await netlink.call(_host, config, interfaces)
        services, problem = _services(config, host)
        return BalancerFacts(
            machine=machine,
            links=await gather_links(netlink, wanted_interfaces(config)),
            interfaces=interfaces,
            host=host,
            services=services,
            services_problem=problem,
            forwarders={
                name: plugins.forwarder(name)(config.plugins[name]) for name in config.forwarders
            },
            busy=await netlink.call(_busy, config, host) if daemon.status is None else {},
            nodes=await _nodes(netlink, interfaces, _known_nodes(config, daemon)),
            daemon=daemon,
        )


def _host(config: BalancerConfig, interfaces: Mapping[str, Interface]) -> HostView | None:
    private = interfaces.get(config.private_interface.net_interface_private)
    public = interfaces.get(config.public_interface.net_interface_public)
    if not private or not public:
        return None
    grouped = config.load_balancer_quorum.transport is not None
    return attrs.evolve(host_view(private, public, 0), grouped=grouped)


def _services(config: BalancerConfig, host: HostView | None) -> tuple[tuple[Service, ...], str]:
    if host is None:
        return config.configured_services(), ""
    try:
        return resolve_services(config, host.public), ""
    except ConfigError as error:
        return (), str(error)


def _daemon(config: BalancerConfig) -> DaemonFacts:
    directory = config.instance.directory
    facts = DaemonFacts(
        version=importlib.metadata.version("galelb"),
        folder=directory.is_dir(),
        directory=str(directory),
    )
    path = default_socket(config.path)
    if not path.exists():
        return facts
    try:
        with ApiClient(path) as client:
            status = client.get("status")
            return attrs.evolve(facts, status=status, elsewhere=_elsewhere(status["pid"]))
    except ApiError as error:
        if not _refused(path):
            return attrs.evolve(facts, problem=str(error))
    return facts


def _elsewhere(pid: int) -> bool:
    """Return whether a process is known to be in another network namespace."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    return False


def _refused(path: Path) -> bool:
    """Return whether a socket is a dead one, which is no problem: the next start replaces it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asking:
        return asking.connect_ex(str(path)) in (errno.ECONNREFUSED, errno.ENOENT)


def _busy(config: BalancerConfig, host: HostView | None) -> dict[str, str]:
    """Try to listen where the balancer will: on the private addresses."""
    found: dict[str, str] = {}
    for key, port in listening(config).items():
        for address in host.private.addresses if host else ():
            if problem := _listen_problem(address, port):
                found[key] = problem
    return found


def _listen_problem(address: IPAddress, port: int) -> str:
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as trying:
        trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trying.bind((str(address), port))
            trying.listen(1)
        except OSError as error:
            return f"{address} port {port}: {os.strerror(error.errno or 0)}"
    return ""


def _known_nodes(config: BalancerConfig, daemon: DaemonFacts) -> Sequence[NodeFacts]:
    """Return the nodes of the configuration, and those that were known when it was saved."""
    found = {ip: NodeFacts(address=ip) for ip in (_saved(config) if daemon.folder else ())}
    for section in config.nodes:
        found[section.ip] = NodeFacts(address=section.ip, mac=section.mac, static=True)
    return sorted(found.values(), key=lambda node: not node.static)[:_MOST_NODES]


def _saved(config: BalancerConfig) -> Iterator[IPAddress]:
    try:
        state = load_state(config.instance.directory)
        yield from [ip_address(one["address"]) for one in state.health]
    except (GaleError, KeyError, ValueError, TypeError):
        return  # what an instance cannot read it says itself


async def _nodes(
    netlink: Netlink, interfaces: Mapping[str, Interface], nodes: Sequence[NodeFacts]
) -> tuple[NodeFacts, ...]:
    """Return the nodes with the ways to them, all looked at at once."""
    found = list(nodes)
    names = {interface.ifindex: interface.name for interface in interfaces.values()}

    async def look(at: int) -> None:
        found[at] = await _node(netlink, names, nodes[at])

    async with trio.open_nursery() as nursery:
        for at in range(len(nodes)):
            nursery.start_soon(look, at)
    return tuple(found)


async def _node(netlink: Netlink, names: Mapping[int, str], node: NodeFacts) -> NodeFacts:
    try:
        route = await netlink.route_to(node.address)
    except NetlinkError as error:
        return attrs.evolve(node, problem=f"there is no way to it: {error}")
    mac = node.mac or await _mac(netlink, route.ifindex, route.gateway or node.address)
    name = names.get(route.ifindex, "an interface that is gone")
    return attrs.evolve(node, interface=name, gateway=route.gateway, mac=mac)


async def _mac(netlink: Netlink, ifindex: int, hop: IPAddress) -> str | None:
    """Return a neighbour's link-layer address.

    When it is not known a datagram makes the kernel ask for it. Asking by netlink would end what
    a balancer that runs has asked for.
    """
    found = await netlink.neighbour(ifindex, hop)
    if found.mac is None:
        await netlink.call(_knock, hop, ifindex)
    with trio.move_on_after(_PATIENCE_S):
        while found.mac is None:
            await trio.sleep(0.05)
            found = await netlink.neighbour(ifindex, hop)
    return found.mac


def _knock(hop: IPAddress, ifindex: int) -> None:
    """Send a datagram to the discard port."""
    family = socket.AF_INET6 if hop.version == 6 else socket.AF_INET
    zone = (0, ifindex if hop.is_link_local else 0) if hop.version == 6 else ()
    with (
        contextlib.suppress(OSError),
        socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door,
    ):
        door.sendto(b"", (str(hop), 9, *zone))
