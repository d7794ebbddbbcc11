# SPDX-License-Identifier: Apache-2.0
"""Gathers the facts that the checks of a node are made from."""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import trio

from galelb.bpf.attach import XdpState
from galelb.config.node import BalancerAddress, CheckSection, NodeConfig, split_target
from galelb.doctor.links import xdp_on
from galelb.doctor.node import BalancerSeen, Listener, NodeSide, Probe
from galelb.errors import NetlinkError
from galelb.grpc.client import Channel
from galelb.grpc.framing import CallError
from galelb.grpc.tls import FileProblemError
from galelb.model import Interface, IPAddress
from galelb.netlink import Netlink, open_netlink
from galelb.node.checks import CheckFailed, probe
from galelb.node.host_record import load_record
from galelb.node.identity import Identity
from galelb.node.kernel_tunnels import is_up, missing_tunnels
from galelb.node.names import connect_tcp, resolve
from galelb.node.reasons import os_reason
from galelb.node.wire import GET_CONFIG, Advice
from galelb.node.wishes import Wishes, read_wishes

__all__ = ["look_at_node"]

_TIMEOUT_S = 3.0
_FAR_AWAY: Mapping[int, IPAddress] = {
    # Addresses that nobody has (RFC 7526, RFC 3849): only a default route leads there.
    4: IPv4Address("192.88.99.1"),
    6: IPv6Address("2001:db8:ffff::1"),
}
_LISTENING = "0A"  # include/net/tcp_states.h: TCP_LISTEN
_MOST_ANSWERS = 64


async def look_at_node(config: NodeConfig) -> NodeSide:
    """Return what is so on this machine, in this network namespace. Raises GaleError."""
    balancers = await _each(config.load_balancer.addresses, config)
    checks = await _checks(config.checks)
    wishes = Wishes.together(one.wishes for one in balancers)
    async with open_netlink() as netlink:
        interfaces = await netlink.interfaces()
        here = {address for one in interfaces.values() for address in one.addresses}
        side = NodeSide(
            balancers=balancers,
            interfaces=interfaces,
            root=os.geteuid() == 0,
            checks=checks,
            answers=await _answers(wishes.served & here, config.checks),
            listeners=tuple(_listeners()),
            no_default=await _without_default(netlink),
            ends=frozenset(load_record(Path(config.node.state_file)).tunnels),
        )
        return await _with_tunnels(netlink, config, side, wishes)


async def _each(
    addresses: Sequence[BalancerAddress], config: NodeConfig
) -> tuple[BalancerSeen, ...]:
    """Ask all balancers at once."""
    seen: dict[int, BalancerSeen] = {}
    not_vips = [address.host for address in addresses]
    identity = Identity(config.load_balancer)

    async def ask(number: int) -> None:
        seen[number] = await _ask(addresses[number], not_vips, identity)

    async with trio.open_nursery() as nursery:
        for number in range(len(addresses)):
            nursery.start_soon(ask, number)
    return tuple(seen[number] for number in range(len(addresses)))


async def _ask(
    address: BalancerAddress, not_vips: Sequence[str], identity: Identity
) -> BalancerSeen:
    """Ask a balancer what it wants of its nodes."""
    name = address.name
    try:
        with trio.fail_after(_TIMEOUT_S):
            found = await resolve(address.host)  # as the agent does, with mDNS
    except OSError as error:
        why = error.strerror or error
        return BalancerSeen(name=name, problem=f"its name cannot be looked up: {why}")
    except trio.TooSlowError:
        return BalancerSeen(name=name, problem="its name cannot be looked up: no answer in time")
    known = tuple(sorted(map(str, found)))
    try:
        with trio.fail_after(_TIMEOUT_S):
            wishes = read_wishes(await _advice(address, identity), not_vips)
            return BalancerSeen(name=name, addresses=known, wishes=wishes)
    except (FileProblemError, trio.BrokenResourceError) as error:
        why = f"cannot connect: {error}"
    except OSError as error:
        why = f"cannot connect: {os_reason(error)}; does `galelb run` run there, is {address.port}"
        why += " its node_port, is there a firewall?"
    except trio.TooSlowError:
        why = "no answer in time: is it up, is there a way to it, a firewall?"
    except CallError as error:
        why = f"what listens there gives nodes no advice: {error}"
    return BalancerSeen(name=name, addresses=known, problem=why)


async def _advice(address: BalancerAddress, identity: Identity) -> Advice:
    """Return the answer to GetConfig, asked for as the agent does.

    Raises OSError, CallError, FileProblemError, trio.BrokenResourceError.
    """
    metadata = identity.metadata()
    stream = await connect_tcp(address.host, address.port)
    assert isinstance(stream, trio.SocketStream)
    peer = ip_address(str(stream.socket.getpeername()[0]).partition("%")[0])
    scheme = "https" if identity.uses_tls else "http"
    secured = await identity.secure(stream, address.host)
    async with trio.open_nursery() as nursery:
        channel = Channel(secured, address.name, scheme=scheme, metadata=metadata)
        await channel.start(nursery)
        try:
            answer: bytes | CallError = await channel.unary(GET_CONFIG, b"")
        except CallError as error:
            answer = error
        nursery.cancel_scope.cancel()
    if isinstance(answer, CallError):
        raise answer
    return Advice.decode(answer, peer)


async def _checks(sections: Sequence[CheckSection]) -> tuple[Probe, ...]:
    """Run every check once."""
    found: dict[str, Probe] = {}

    async def run(section: CheckSection) -> None:
        try:
            await probe(section)
        except CheckFailed as failure:
            found[section.name] = Probe(name=section.name, problem=str(failure))
        else:
            found[section.name] = Probe(name=section.name)

    async with trio.open_nursery() as nursery:
        for section in sections:
            nursery.start_soon(run, section)
    return tuple(found[section.name] for section in sections)


async def _answers(
    vips: Collection[IPAddress], sections: Sequence[CheckSection]
) -> tuple[Probe, ...]:
    """Connect to VIPs at the ports that the checks ask: there the service is."""
    ports = dict.fromkeys(port for section in sections if (port := _port(section)))
    asked = [(vip, port) for vip in sorted(vips, key=str) for port in ports]
    return tuple([await _connect(vip, port) for vip, port in asked[:_MOST_ANSWERS]])


def _port(section: CheckSection) -> int | None:
    if section.target is not None:
        return split_target(section.target)[1]
    if section.url is not None:
        url = urlsplit(section.url)
        return url.port or (443 if url.scheme == "https" else 80)
    return None


async def _connect(vip: IPAddress, port: int) -> Probe:
    name = f"[{vip}]:{port}" if vip.version == 6 else f"{vip}:{port}"
    try:
        with trio.fail_after(_TIMEOUT_S):
            await trio.aclose_forcefully(await trio.open_tcp_stream(str(vip), port))
    except OSError as error:
        why = f"{os_reason(error)}: clients get none from here either. Is the VIP on lo, and does"
        return Probe(name=name, problem=f"{why} the server listen on it or on all addresses?")
    except trio.TooSlowError:
        return Probe(name=name, problem="no answer in time: is there a firewall?")
    return Probe(name=name)


def _listeners() -> Iterator[Listener]:
    """Yield the sockets that wait for packets: TCP that listens, UDP that is bound."""
    for table, version in (("tcp", 4), ("udp", 4), ("tcp6", 6), ("udp6", 6)):
        try:
            lines = Path(f"/proc/thread-self/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            local, remote, state = line.split()[1:4]
            waits = state == _LISTENING if table.startswith("tcp") else remote.endswith(":0000")
            if waits:
                address, _, port = local.rpartition(":")
                yield Listener(_address(address, version), int(port, 16))


def _address(text: str, version: int) -> IPAddress:
    """Read an address as the kernel prints it: words of 32 bits, each in host order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    raw = struct.pack(f"={len(words)}I", *words)
    return IPv6Address(raw) if version == 6 else IPv4Address(raw)


async def _without_default(netlink: Netlink) -> frozenset[int]:
    found = set()
    for version, address in _FAR_AWAY.items():
        try:
            await netlink.route_to(address)
        except NetlinkError:
            found.add(version)
    return frozenset(found)


async def _with_tunnels(
    netlink: Netlink, config: NodeConfig, side: NodeSide, wishes: Wishes
) -> NodeSide:
    if not wishes.tunnels:
        return side
    ways, problems = await _ways(netlink, config, side.interfaces, wishes)
    outer = {balancer.version for balancer in wishes.balancers} or {4}

    def look() -> tuple[dict[str, XdpState | None], list[tuple[str, str]]]:
        up = [interface for interface in side.interfaces.values() if is_up(interface.name)]
        states = {way.name: xdp_on(way.ifindex) for way in ways}
        return states, list(missing_tunnels(wishes.tunnels, outer, up))

    states, lacks = await netlink.call(look)
    return attrs.evolve(
        side, ways=ways, ways_problem=problems, xdp=states, kernel_lacks=tuple(lacks)
    )


async def _ways(
    netlink: Netlink,
    config: NodeConfig,
    interfaces: Mapping[str, Interface],
    wishes: Wishes,
) -> tuple[tuple[Interface, ...], tuple[str, ...]]:
    """Return the interfaces that tunnels come in by, as galelb.node.host finds them."""
    if given := config.node.interfaces:
        absent = [name for name in given if name not in interfaces]
        problems = [f"there is no interface {name}: mend [node] interfaces" for name in absent]
        return tuple(interfaces[n] for n in given if n in interfaces), tuple(problems)
    by_index = {interface.ifindex: interface for interface in interfaces.values()}
    found: dict[str, Interface] = {}
    for balancer in sorted(wishes.balancers, key=str):
        try:
            way = by_index[(await netlink.route_to(balancer)).ifindex]
        except (NetlinkError, KeyError):
            continue
        found[way.name] = way
    if not found:
        return (), ("no interface leads to a balancer: name it in [node] interfaces",)
    return tuple(found.values()), ()
