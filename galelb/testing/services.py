# SPDX-License-Identifier: Apache-2.0
"""The services of packet tests, by a short name, and compiled programs that are made once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack
from ipaddress import ip_address
from typing import Any

from galelb.errors import GaleError
from galelb.model import Protocol, Service
from galelb.testing.kernel import Sandbox
from galelb.testing.runner import PacketRunner

__all__ = ["VIPS", "Runners", "make_services"]

VIPS = {4: "198.51.100.1", 6: "2001:db8:1::1"}
VLAN = 5
TCP, UDP = Protocol.TCP, Protocol.UDP
KINDS: Mapping[str, tuple[int, Protocol, int, Mapping[str, Any]]] = {
    "tcp4": (80, TCP, 4, {}),
    "udp4": (53, UDP, 4, {}),
    "tcp6": (80, TCP, 6, {}),
    "udp6": (53, UDP, 6, {}),
    "vlan4": (81, TCP, 4, {"vlan": VLAN}),
    "vlan6": (81, UDP, 6, {"vlan": VLAN}),
    "empty4": (82, TCP, 4, {"nodes": (ip_address("10.9.9.9"),)}),
    "empty6": (82, UDP, 6, {"nodes": (ip_address("fd09::9"),)}),
}
"""Port, protocol, family and the rest; the empty ones have no routable node."""


def make_services(
    forwarder: str, *, target_offset: int = 0, ipv6: bool = True
) -> dict[str, Service]:
    """Return services of every kind, all of one forwarder.

    `target_offset`: by how much nodes' ports are higher, for a forwarder that changes ports.
    """
    return {
        name: Service(
            name=name,
            vip=ip_address(VIPS[version]),
            port=port,
            protocol=protocol,
            target_port=port + target_offset,
            forwarder=forwarder,
            **more,
        )
        for name, (port, protocol, version, more) in KINDS.items()
        if ipv6 or version == 4
    }


class Runners:
    """Runners by any key, made when first asked for and kept as long as the stack.

    One that cannot be loaded fails everybody alike, without being compiled again.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._made: dict[Hashable, PacketRunner | GaleError] = {}

    def get(self, key: Hashable, make: Callable[[Sandbox], PacketRunner]) -> PacketRunner:
        """Return the runner of that key; `make` builds it in a sandbox of its own."""
        if key not in self._made:
            self._made[key] = self._try(make)
        made = self._made[key]
        if isinstance(made, GaleError):
            problem = f"the programs for {key} cannot be loaded: {made}"
            raise AssertionError(problem)  # noqa: TRY004 - a test fails so
        return made

    def _try(self, make: Callable[[Sandbox], PacketRunner]) -> PacketRunner | GaleError:
        sandbox = self._stack.enter_context(Sandbox())
        try:
            return self._stack.enter_context(make(sandbox))
        except GaleError as error:
            return error
