# SPDX-License-Identifier: Apache-2.0
"""What can keep a node from serving, judged from facts alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from galelb.bpf.attach import XdpState
from galelb.config.node import NodeConfig
from galelb.doctor.findings import Finding, fail, ok, warn
from galelb.model import Interface, IPAddress
from galelb.node.host_needs import LOOPBACK, Need, ReadSysctl, mending, missing_sysctls
from galelb.node.tunnels import End
from galelb.node.wishes import Wishes

__all__ = ["BalancerSeen", "Listener", "NodeSide", "Probe", "check_node"]

_OUR_TUNNEL_PROGRAM = "gale_decap"
_AGENT = "galelb node"
"""Loads that program, which goes on when it ends by force."""
_ANY = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - what others listen on


@attrs.frozen(kw_only=True)
class BalancerSeen:
    """A balancer as this node reaches it."""

    name: str
    addresses: tuple[str, ...] = ()
    """What its name stands for."""
    problem: str = ""
    """Why it cannot be reached, or gives no advice."""
    wishes: Wishes = attrs.Factory(Wishes)
    """What its forwarders need of this node."""


@attrs.frozen
class Listener:
    """A socket that waits for clients on this machine."""

    address: IPAddress
    port: int

    def takes(self, vip: IPAddress) -> bool:
        """Return whether packets to the VIP reach it."""
        return self.address == vip or str(self.address) in (_ANY[vip.version], _ANY[6])


@attrs.frozen(kw_only=True)
class Probe:
    """Something that was tried: a check of node.toml, or a connection to a VIP."""

    name: str
    problem: str = ""


@attrs.frozen(kw_only=True)
class NodeSide:
    """All that the checks of a node are made from."""

    balancers: tuple[BalancerSeen, ...]
    interfaces: Mapping[str, Interface]
    """All of this machine."""
    root: bool = True
    ways: tuple[Interface, ...] = ()
    """By which tunnels come."""
    ways_problem: tuple[str, ...] = ()
    xdp: Mapping[str, XdpState | None] = attrs.Factory(dict)
    """What is attached to each of the ways."""
    ends: frozenset[End] = frozenset()
    """Tunnels that our program is told to take packets out of."""
    kernel_lacks: tuple[tuple[str, str], ...] = ()
    """What the kernel's own tunnel devices do not do, and the command that makes them."""
    checks: tuple[Probe, ...] = ()
    answers: tuple[Probe, ...] = ()
    """Connections from here to the VIPs that are here; others would lead to the balancer."""
    listeners: tuple[Listener, ...] = ()
    no_default: frozenset[int] = frozenset()
    """Families of IP without a default route."""

    @property
    def wishes(self) -> Wishes:
        """What all balancers together want."""
        return Wishes.together(one.wishes for one in self.balancers)


def check_node(config: NodeConfig, side: NodeSide, read: ReadSysctl) -> Iterator[Finding]:
    """Yield what each check finds. `read` returns the value of a sysctl."""
    yield from _privileges(config, side)
    for balancer in side.balancers:
        yield from _balancer(balancer)
    wishes = side.wishes
    yield from _vips(config, side)
    if wishes:
        need = Need(vips=wishes.served, interfaces=side.interfaces, tunnels=side.ways)
        yield from _sysctls(need, read)
    if wishes.tunnels:
        yield from _tunnels(config, side, wishes)
    yield from _routes(side, wishes)
    yield from (_probe(f"check {one.name}", one, "passes") for one in side.checks)
    if not side.checks:
        text = "node.toml has no [[checks]]: the node serves whatever its service does"
        yield warn("checks", text)
    yield from _answers(side, wishes)


def _privileges(config: NodeConfig, side: NodeSide) -> Iterator[Finding]:
    if not config.node.configure_host:
        yield ok("agent", "is told to change nothing (configure_host = false)")
    elif side.root:
        yield ok("agent", "may set this machine up, and does so while `galelb node` runs")
    else:
        text = "not root: `galelb node` cannot set this machine up so, nor can all of it be seen"
        yield warn("agent", text)


def _balancer(balancer: BalancerSeen) -> Iterator[Finding]:
    name = f"balancer {balancer.name}"
    if balancer.problem:
        yield fail(name, balancer.problem)
        return
    wishes = balancer.wishes
    wanted = [f"VIP {vip} here" for vip in sorted(wishes.served, key=str)]
    if wishes.tunnels:
        wanted.append("packets taken out of tunnels")
    yield ok(name, f"answers; it wants {', '.join(wanted) or 'nothing of this machine'}")


def _vips(config: NodeConfig, side: NodeSide) -> Iterator[Finding]:
    holders = {a: i.name for i in side.interfaces.values() for a in i.addresses}
    agent = ", as `galelb node` does while it runs" if config.node.configure_host else ""
    for vip in sorted(side.wishes.served, key=str):
        name = f"vip {vip}"
        holder = holders.get(vip)
        if holder is None:
            text = f"is no address here, so packets to it vanish: add it{agent}"
            yield fail(name, text, mending(vip))
        elif holder != LOOPBACK:
            text = f"is on {holder}, which tells the network that this machine owns it"
            mend = f"ip address flush dev {holder} to {vip} && {mending(vip)}"
            yield fail(name, text, mend)
        else:
            yield ok(name, f"is on {LOOPBACK}")


def _sysctls(need: Need, read: ReadSysctl) -> Iterator[Finding]:
    missing = list(missing_sysctls(need, read))
    for one in missing:
        scope, key = one.name.split("/")[-2:]
        yield fail(f"{key} {scope}", f"is {one.before}, {_WHY[key]}", mending(one))
    if not missing:
        yield ok("sysctls", "the VIPs are kept from the network, and packets to them are taken")
    if need.has(6) and read(f"net/ipv6/conf/{LOOPBACK}/disable_ipv6") == "1":
        command = f"sysctl -w net/ipv6/conf/{LOOPBACK}/disable_ipv6=0"
        yield fail(f"disable_ipv6 {LOOPBACK}", "is 1, so it can hold no IPv6 VIP", command)


_WHY = {
    "arp_ignore": "so this machine answers for VIPs that it must be silent about",
    "arp_announce": "so this machine asks in the VIPs' name, and others learn that",
    "rp_filter": "so packets that would be answered another way than they came are dropped",
    "disable_ipv6": "so IPv6 packets from tunnels are dropped",
}


def _tunnels(config: NodeConfig, side: NodeSide, wishes: Wishes) -> Iterator[Finding]:
    yield from (fail("tunnels", problem) for problem in side.ways_problem)
    for way in side.ways:
        name = f"tunnels {way.name}"
        state = side.xdp.get(way.name)
        missing = sorted(str(end.address) for end in wishes.tunnels - side.ends)
        if state is not None and state.name == _OUR_TUNNEL_PROGRAM:
            if missing:
                text = f"our program does not take packets to {', '.join(missing)} out of them"
                yield fail(name, text, _AGENT)
            else:
                yield ok(name, "our program takes packets out of them")
        elif state is not None and not state.name and not side.root:
            yield warn(name, "an XDP program is attached; only root can see whether it is ours")
        elif not side.kernel_lacks:
            yield ok(name, "devices of the kernel take packets out of them")
        elif state is not None:
            text = (
                f"XDP program {state.name or '(no name)'} (id {state.program_id}) of somebody else"
                " is attached, so ours cannot be"
            )
            yield fail(name, text, f"ip link set dev {way.name} xdp off")
        else:
            text, command = side.kernel_lacks[0]
            if config.node.configure_host:
                yield fail(name, f"{text}; or let the kernel do it: {command}", _AGENT)
            else:
                yield fail(name, f"{text}; or set configure_host = true in [node]", command)


def _routes(side: NodeSide, wishes: Wishes) -> Iterator[Finding]:
    """Answers go to the clients straight from here."""
    for version in sorted({vip.version for vip in wishes.served}):
        name = f"route ipv{version}"
        if version in side.no_default:
            text = "there is no default route, so clients beyond this machine's networks get none"
            yield warn(name, f"{text} of its answers")
        else:
            yield ok(name, "there is a default route for answers to clients")


def _probe(name: str, probe: Probe, good: str) -> Finding:
    return fail(name, probe.problem) if probe.problem else ok(name, good)


def _answers(side: NodeSide, wishes: Wishes) -> Iterator[Finding]:
    """The VIP missing on a node, or a server that does not listen on it, swallow packets."""
    for one in side.answers:
        yield _probe(f"answer {one.name}", one, "the service answers on the VIP")
    here = {a for interface in side.interfaces.values() for a in interface.addresses}
    asked = {one.name.rpartition(":")[0].strip("[]") for one in side.answers}
    for vip in sorted(wishes.served, key=str):
        if vip not in here or str(vip) in asked:
            continue  # what is missing has been said
        name = f"answer {vip}"
        if any(listener.takes(vip) for listener in side.listeners):
            yield ok(name, "something listens on addresses that include it")
        else:
            text = "nothing listens on it, nor on all addresses: bind the server to it"
            yield warn(name, text, f"ss -ltun | grep -e '{vip}' -e '{_ANY[vip.version]}' -e '*:'")
