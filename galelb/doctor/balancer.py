# SPDX-License-Identifier: Apache-2.0
"""What can keep a balancer from serving clients, judged from facts alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from galelb.config import BalancerConfig, digest
from galelb.doctor.findings import Finding, fail, ok, warn
from galelb.doctor.group import check_group
from galelb.doctor.links import LinkFacts, check_links
from galelb.doctor.machine import MachineFacts, check_machine
from galelb.forwarder import Forwarder, HostView
from galelb.model import Interface, IPAddress, Service

__all__ = ["BalancerFacts", "DaemonFacts", "NodeFacts", "check_balancer", "listening"]

_LOOPBACK = "lo"
_STRICT = 1
_MOST_ROOM = 128
"""Bytes: no tunnel's headers are longer."""


@attrs.frozen(kw_only=True)
class NodeFacts:
    """The way to a node."""

    address: IPAddress
    interface: str = ""
    """The one that leads there; empty when there is no way."""
    gateway: IPAddress | None = None
    mac: str | None = None
    """Link-layer address of the next hop, None while nobody answers for it."""
    static: bool = False
    """Whether it is in [[nodes]]; else it reported once, and may be gone for good."""
    problem: str = ""
    """Why there is no way."""


@attrs.frozen(kw_only=True)
class DaemonFacts:
    """What runs as this instance, or what a former run left."""

    status: Mapping[str, Any] | None = None
    """Its GET /v1/status; None when it does not answer."""
    elsewhere: bool = False
    """Whether it runs in another network namespace than this one."""
    problem: str = ""
    """Why a socket that is there does not answer."""
    version: str = ""
    """Of this galelb."""
    folder: bool = False
    """Whether the instance has left something on disk."""
    directory: str = ""


@attrs.frozen(kw_only=True)
class BalancerFacts:
    """All that the checks of a balancer are made from."""

    machine: MachineFacts
    links: tuple[LinkFacts, ...]
    interfaces: Mapping[str, Interface]
    """All of this machine."""
    host: HostView | None = None
    """None when one of the configured interfaces is missing."""
    services: tuple[Service, ...] = ()
    services_problem: str = ""
    forwarders: Mapping[str, Forwarder] = attrs.Factory(dict)
    busy: Mapping[str, str] = attrs.Factory(dict)
    """Why a port of the configuration (key, such as node_port) cannot be listened on."""
    nodes: tuple[NodeFacts, ...] = ()
    daemon: DaemonFacts = DaemonFacts()


def check_balancer(config: BalancerConfig, facts: BalancerFacts) -> Iterator[Finding]:
    """Yield what each check finds."""
    yield from check_machine(facts.machine)
    if facts.daemon.elsewhere and facts.daemon.status is not None:
        # What can be seen from here is another network.
        yield from _elsewhere(config, facts.daemon.status)
        return
    running = _running_on(facts.daemon)
    yield from check_links(
        facts.links,
        xdp_mode=config.forwarding.xdp_mode,
        tc_possible=all(one.supports_tc for one in facts.forwarders.values()),
        ours=running,
        present=tuple(facts.interfaces),
        ipv6=any(service.vip.version == 6 for service in facts.services),
        vlan=any(service.vlan for service in facts.services),
    )
    yield from check_group(config, facts.interfaces, facts.services)
    yield from _vips(config, facts)
    yield from _forwarders(facts)
    yield from _reverse_path(facts)
    yield from _ports(config, facts)
    yield from _nodes(facts)
    yield from _daemon(config, facts)


def _elsewhere(config: BalancerConfig, status: Mapping[str, Any]) -> Iterator[Finding]:
    pid = status["pid"]
    text = (
        f"instance {config.instance.name} (pid {pid}) runs in another network namespace, whose"
        " interfaces, addresses and neighbours cannot be seen from here: look from there"
    )
    command = f"nsenter --net=/proc/{pid}/ns/net galelb doctor --config {config.path}"
    yield fail("namespace", text, command)


def _running_on(daemon: DaemonFacts) -> frozenset[str]:
    if daemon.status is None:
        return frozenset()
    return frozenset(one["name"] for one in daemon.status["interfaces"])


def _vips(config: BalancerConfig, facts: BalancerFacts) -> Iterator[Finding]:
    if facts.services_problem:
        yield fail("services", facts.services_problem)
    holders = {a: i.name for i in facts.interfaces.values() for a in i.addresses}
    public = config.public_interface.net_interface_public
    for vip in dict.fromkeys(service.vip for service in facts.services):
        name = f"vip {vip}"
        moves = config.load_balancer_quorum.transport and config.announce.plugin and config.services
        if vip in holders and moves and holders[vip] != _LOOPBACK:
            continue  # said by check_group
        if vip in holders:
            where = "" if holders[vip] == _LOOPBACK else f" of {holders[vip]}"
            yield ok(name, f"is an address{where}; programs on this machine itself cannot use it")
        elif config.announce.plugin is not None:
            yield ok(name, f"is left to {config.announce.plugin}")
        else:
            text = "is no address here, so nobody answers for it unless a router sends it here"
            nodad = " nodad" if vip.version == 6 else ""
            command = f"ip address add {vip}/{vip.max_prefixlen} dev {public}{nodad}"
            yield warn(name, text, command)


def _forwarders(facts: BalancerFacts) -> Iterator[Finding]:
    if facts.host is None:
        return
    for name, forwarder in facts.forwarders.items():
        mine = [service for service in facts.services if service.forwarder == name]
        try:
            yield from list(_forwarder(forwarder, mine, facts.host))
        except Exception as error:  # foreign code: the other checks go on
            text = f"its check of this machine failed: {type(error).__name__}: {error}"
            yield fail(f"forwarder {name}", text)


def _forwarder(forwarder: Forwarder, services: list[Service], host: HostView) -> Iterator[Finding]:
    name = f"forwarder {forwarder.name}"
    problems = forwarder.check(services, host)
    yield from (fail(name, problem) for problem in problems)
    if problems:
        return
    notes = forwarder.notes(services, host)
    if forwarder.wraps:
        # Packets grow on their way, so what such a forwarder notes is that they do not fit.
        command = _more_room(forwarder, services, host) if notes else ""
        yield from (warn(name, note, command) for note in notes)
    else:
        yield from (ok(name, note) for note in notes)
    if not notes:
        yield ok(name, _served(services))


def _more_room(forwarder: Forwarder, services: list[Service], host: HostView) -> str:
    """Return the command after which packets fit, where the network allows it."""
    for more in range(1, _MOST_ROOM + 1):
        private = attrs.evolve(host.private, mtu=host.private.mtu + more)
        if not forwarder.notes(services, attrs.evolve(host, private=private)):
            return f"ip link set dev {private.name} mtu {private.mtu}"
    return ""


def _served(services: list[Service]) -> str:
    return f"serves {', '.join(service.name for service in services)}"


def _reverse_path(facts: BalancerFacts) -> Iterator[Finding]:
    """Only answers that the kernel forwards meet rp_filter; everything else XDP and TC take."""
    if not any(one.needs_tc_egress for one in facts.forwarders.values()):
        return
    for link in facts.links:
        if link.rp_filter == _STRICT:
            text = "strict: the kernel drops answers of nodes that it would reach another way"
            command = f"sysctl -w net/ipv4/conf/{link.name}/rp_filter=2"
            yield warn(f"rp_filter {link.name}", text, command)
        elif link.interface is not None:
            yield ok(f"rp_filter {link.name}", "lets answers of nodes pass")


def listening(config: BalancerConfig) -> dict[str, int]:
    """Return the ports that a balancer listens on, on its private side, by their keys."""
    private, quorum = config.private_interface, config.load_balancer_quorum
    ports = {"node_port": private.node_port, "api_port": private.api_port}
    if quorum.transport is not None:
        ports |= {
            "load_balancer_port": private.load_balancer_port,
            "sharing_port": quorum.sharing_port,
        }
    return ports


def _ports(config: BalancerConfig, facts: BalancerFacts) -> Iterator[Finding]:
    for key, port in listening(config).items():
        name = f"{key} {port}"
        if facts.daemon.status is not None:
            yield ok(name, "used by the balancer that runs")
        elif key in facts.busy:
            text = f"{facts.busy[key]}: `ss -ltnp sport = :{port}` tells who has it; stop that, or"
            section = "load_balancer_quorum" if key == "sharing_port" else "private_interface"
            yield fail(name, f"{text} change {key} in [{section}]")
        else:
            yield ok(name, "free")


def _nodes(facts: BalancerFacts) -> Iterator[Finding]:
    if not facts.nodes:
        yield ok("nodes", "none known: they report by themselves (`galelb node`)")
    for node in facts.nodes:
        name = f"node {node.address}"
        bad = fail if node.static else warn
        if node.problem:
            yield bad(name, node.problem)
        elif node.mac is None:
            who = f"its router {node.gateway}" if node.gateway else "it"
            hop = node.gateway or node.address
            text = f"{who} does not answer for its link-layer address on {node.interface}"
            yield bad(name, f"{text}: is it up, and on that network (`ping -c 1 {hop}`)?")
        else:
            way = f"behind the router {node.gateway}, " if node.gateway else ""
            yield ok(name, f"{way}{node.mac} on {node.interface}")


def _daemon(config: BalancerConfig, facts: BalancerFacts) -> Iterator[Finding]:
    daemon = facts.daemon
    name = f"instance {config.instance.name}"
    if daemon.status is not None:
        yield from _running(config, daemon, daemon.status, name)
        return
    if daemon.problem:
        yield warn(name, daemon.problem)
    attached = [link.name for link in facts.links if link.mode is not None and not link.claimed]
    if attached:
        text = (
            f"does not run, but its programs forward on {', '.join(attached)}: `galelb run` takes"
            " over without losing a connection; or remove them"
        )
        yield warn(name, text, f"galelb detach --config {config.path}")
    elif daemon.folder:
        text = f"does not run; what it left in {daemon.directory} is used by the next start"
        yield ok(name, text)
    elif not daemon.problem:
        yield ok(name, "does not run, and has left nothing")


_DROPS = {
    "hairpin": "of nodes that are clients of their own service; only l4_nat's full_nat can do that",
    "table_full": "for want of a free flow or port: see source_addresses, ports and max_flows",
}


def _drops(reasons: Mapping[str, Any]) -> Iterator[Finding]:
    for reason, why in _DROPS.items():
        if reason in reasons:
            yield warn(f"dropped {reason}", f"{reasons[reason]['packets']} packets {why}")


def _running(
    config: BalancerConfig, daemon: DaemonFacts, status: Mapping[str, Any], name: str
) -> Iterator[Finding]:
    yield from _drops(status["reasons"])
    pid = status["pid"]
    if status["ready"]:
        yield ok(name, f"runs (pid {pid}) and forwards")
    else:
        yield warn(name, f"runs (pid {pid}), but: {status['not_ready_reason']}")
    if status["config_digest"] != digest(config):
        text = f"the running one has other services or settings than {config.path}"
        yield warn("configuration", text, f"kill -HUP {pid}")
    if status["version"] != daemon.version:
        text = f"{status['version']} runs, {daemon.version} is installed: start it again"
        yield warn("version", text)
