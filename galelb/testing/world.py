# SPDX-License-Identifier: Apache-2.0
"""The little network that packet tests play in: addresses, MACs and the kernel's view of them."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import attrs

from galelb.datapath.host import host_view
from galelb.forwarder import HostView
from galelb.model import Interface, IPAddress
from galelb.testing.kernel import Sandbox

__all__ = [
    "GATEWAY_MAC",
    "LOCAL_CLIENTS",
    "LOCAL_MAC",
    "PRIVATE",
    "PUBLIC",
    "TestNode",
    "World",
    "build_world",
]

PUBLIC, PRIVATE = "galepub0", "galepriv0"
PUBLIC_MAC, PRIVATE_MAC = "02:00:00:00:00:1b", "02:00:00:00:00:1c"
GATEWAY_MAC = "02:00:00:00:00:fe"
LOCAL_MAC = "02:00:00:00:00:aa"
GATEWAYS = {4: "192.0.2.254", 6: "2001:db8:2::fe"}
LOCAL_CLIENTS = {4: "10.0.0.250", 6: "fd00::250"}
"""A client on the private network, beside the nodes."""
OWN = {
    PUBLIC: ("192.0.2.1/24", "2001:db8:2::1/64"),
    PRIVATE: ("10.0.0.1/24", "fd00::1/64"),
}
HURRY = 6
"""With `hurry`, seconds of options are divided by two to the power of this; `calm` multiplies."""
FORWARDING = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")


@attrs.frozen(kw_only=True)
class TestNode:
    """A node of a test: `index` 1 and up, reached through the private interface."""

    __test__ = False

    index: int
    address: IPAddress
    mac: str


@attrs.frozen(kw_only=True)
class World:
    """Interfaces with their ifindexes, and the machine as a forwarder sees it."""

    public: Interface
    private: Interface
    nodes: tuple[TestNode, ...]
    host: HostView

    @property
    def hosts(self) -> tuple[tuple[Interface, str], ...]:
        """Next hops towards clients: the gateway, the local client."""
        return (self.public, GATEWAY_MAC), (self.private, LOCAL_MAC)

    def interface(self, name: str) -> Interface:
        """Return an interface by its name."""
        return self.public if name == self.public.name else self.private


def build_world(
    sandbox: Sandbox, *, nodes: int = 3, mtu: int = 1500, hurry: bool = False, calm: bool = False
) -> World:
    """Make two interfaces with routes and permanent neighbours in the sandbox's namespace.

    Everything that is not on a link goes to a gateway on the public one. `nodes` of each family
    (up to 100). With `hurry` flows and fragments age 64 times faster than the clock, with `calm`
    64 times slower.
    """
    indexes = {}
    for name, mac in ((PUBLIC, PUBLIC_MAC), (PRIVATE, PRIVATE_MAC)):
        indexes[name], _ = sandbox.veth(name, f"{name}x")
        sandbox.command("ip", "link", "set", name, "address", mac, "mtu", str(mtu))
        sandbox.command("ip", "link", "set", f"{name}x", "mtu", str(mtu))
        for address in OWN[name]:
            extra = ("nodad",) if ":" in address else ()
            sandbox.command("ip", "address", "add", address, "dev", name, *extra)
    sandbox.run(_enable_forwarding)
    made = _nodes(nodes)
    _add_neighbours(sandbox, made)
    interfaces = [_interface(name, indexes[name], mtu) for name in (PUBLIC, PRIVATE)]
    return World(
        public=interfaces[0],
        private=interfaces[1],
        nodes=made,
        host=_host(sandbox, interfaces[0], interfaces[1], HURRY * (hurry - calm)),
    )


def _enable_forwarding() -> None:
    for name in FORWARDING:
        Path("/proc/sys", name).write_text("1")


def _add_neighbours(sandbox: Sandbox, nodes: Sequence[TestNode]) -> None:
    for version, gateway in GATEWAYS.items():
        _add_neighbour(sandbox, gateway, GATEWAY_MAC, PUBLIC)
        _add_neighbour(sandbox, LOCAL_CLIENTS[version], LOCAL_MAC, PRIVATE)
        sandbox.command("ip", f"-{version}", "route", "add", "default", "via", gateway)
    for node in nodes:
        _add_neighbour(sandbox, str(node.address), node.mac, PRIVATE)


def _add_neighbour(sandbox: Sandbox, address: str, mac: str, device: str) -> None:
    words = ("ip", "neigh", "replace", address, "lladdr", mac, "dev", device, "nud", "permanent")
    sandbox.command(*words)


def _interface(name: str, ifindex: int, mtu: int) -> Interface:
    mac = PUBLIC_MAC if name == PUBLIC else PRIVATE_MAC
    addresses = tuple(ip_address(text.split("/")[0]) for text in OWN[name])
    return Interface(name=name, ifindex=ifindex, mac=mac, mtu=mtu, addresses=addresses)


def _nodes(count: int) -> tuple[TestNode, ...]:
    """Return `count` nodes of each family, every one with a MAC of its own."""
    made: list[TestNode] = []
    for family in ("10.0.0.{}", "fd00::{}"):
        for number in range(1, count + 1):
            made.append(
                TestNode(
                    index=len(made) + 1,
                    address=ip_address(family.format(10 + number)),
                    mac=f"02:00:00:00:01:{len(made) + 1:02x}",
                )
            )
    return tuple(made)


def _host(sandbox: Sandbox, public: Interface, private: Interface, hurry: int) -> HostView:
    host = sandbox.run(host_view, private, public, 0x1234_5678_9ABC_DEF1)
    hz = host.hz >> hurry if hurry > 0 else host.hz << -hurry
    return attrs.evolve(host, tick_shift=host.tick_shift - hurry, hz=hz)
