# SPDX-License-Identifier: Apache-2.0
"""What a trace is made of: the place it plays in, a packet's steps, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from galelb.abi import Reason
from galelb.model import Interface, IPAddress, Service

__all__ = ["Hop", "Place", "Step", "Trace"]


@attrs.frozen(kw_only=True)
class Place:
    """The interfaces that packets come in by and leave by, and who is where.

    `client_mac` is the sender's where a file has no link layer.
    """

    public: Interface
    private: Interface
    extra: Sequence[Interface] = ()
    nodes: Mapping[IPAddress, int]
    """Numbers of the nodes, by address."""
    services: Mapping[int, Service]
    client_mac: str
    table_size: int

    @property
    def interfaces(self) -> dict[str, Interface]:
        """The interfaces by name."""
        return {one.name: one for one in (*self.extra, self.private, self.public)}

    def interface_name(self, ifindex: int) -> str:
        """Return the name of an interface; for one that is not ours its number."""
        names = {one.ifindex: one.name for one in self.interfaces.values()}
        return names.get(ifindex, f"interface {ifindex}")


@attrs.frozen(kw_only=True)
class Hop:
    """Where a frame goes next."""

    interface: str
    dst_mac: str
    src_mac: str
    mtu: int


@attrs.frozen
class Step:
    """One step of the program: its name in lower case, and named facts (text, numbers, None)."""

    name: str
    facts: Mapping[str, Any]


@attrs.frozen(kw_only=True)
class Trace:
    """What became of one packet of the file."""

    number: int
    """1 and up."""
    time_ns: int
    frame: bytes
    """As it was given to the program."""
    in_interface: str
    problem: str = ""
    """Why it could not be run; then nothing below is set."""
    notes: Sequence[str] = ()
    verdict: str | None = None
    reason: Reason | None = None
    service: Service | None = None
    node: IPAddress | None = None
    out_interface: str | None = None
    out: bytes | None = None
    """The frame as it left, if it was sent, as far as it was captured."""
    out_length: int | None = None
    """Its length on the wire."""
    steps: Sequence[Step] = ()

    @property
    def same_packet(self) -> bool:
        """Whether what left is what came, rewritten, and no answer of ours to its sender."""
        return self.reason not in (Reason.ICMP_SENT, Reason.RESET_SENT)

    @property
    def hop(self) -> Hop | None:
        """The next hop that was taken last."""
        found = self.step("next_hop")
        return Hop(**found) if found else None

    def step(self, name: str) -> Mapping[str, Any] | None:
        """Return the facts of the last step of a name."""
        return next((one.facts for one in reversed(self.steps) if one.name == name), None)
