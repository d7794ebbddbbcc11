# SPDX-License-Identifier: Apache-2.0
"""What a reference model sees of a frame, and what it says of it."""

from __future__ import annotations

import attrs

from galelb.abi import Reason
from galelb.model import IPAddress
from galelb.testing.dissect import Dissected, describe
from galelb.testing.rewriting import canonical
from galelb.testing.runner import Outcome, Verdict
from galelb.testing.world import TestNode
from galelb.trace.describe import difference

__all__ = ["NOT_MINE", "VID", "Arrived", "Fate", "Prediction", "dropped", "mac", "passed", "sent"]

VID = 0xFFF


def mac(text: str) -> bytes:
    """Return a MAC address as it lies in a frame."""
    return bytes.fromhex(text.replace(":", ""))


@attrs.frozen(kw_only=True)
class Arrived:
    """A frame with an IP packet that could be read, and where it came in."""

    data: bytes
    ingress: str
    packet: Dissected
    service: int = 0
    error: bool = False
    """Whether it is an ICMP error."""

    @property
    def vlan(self) -> int:
        """The tag that decides about services; no packet with two tags gets that far."""
        return self.packet.vlans[0] & VID if self.packet.vlans else 0

    @property
    def ip(self) -> bytes:
        """The frame from its IP header on, with what lies behind the packet."""
        return self.data[self.packet.l3 :]

    @property
    def size(self) -> int:
        """Bytes of the IP packet, as its header claims."""
        return self.packet.end - self.packet.l3

    @property
    def first_fragment(self) -> bool:
        """Whether later fragments follow this one."""
        return self.packet.fragment and not self.packet.later_fragment


@attrs.frozen(kw_only=True)
class Fate:
    """One thing that may become of a frame; `data` None = any bytes, `node` None = any."""

    verdict: Verdict
    reason: Reason
    service: int = 0
    node: int | None = 0
    data: bytes | None = None

    def __str__(self) -> str:
        text = f"{self.verdict.value} {self.reason.name} service {self.service} node {self.node}"
        return text if self.data is None else f"{text}: {describe(self.data)}"

    def fits(self, outcome: Outcome) -> bool:
        """Whether the outcome is this one, but for its bytes."""
        same = (self.verdict, self.reason, self.service)
        if same != (outcome.verdict, outcome.reason, outcome.service):
            return False
        return self.node in (None, outcome.node) or outcome.verdict in (Verdict.PASS, Verdict.DROP)


@attrs.frozen(kw_only=True)
class Prediction:
    """What must happen: one of `fates`; there are several only where a rate limit decides."""

    fates: tuple[Fate, ...]
    opens: tuple[IPAddress, int, int] | None = None
    """(client, port, service) of a new flow, whose address and port only the program knows."""

    def problems(self, outcome: Outcome) -> list[str]:
        """Return what is wrong with an outcome; empty = as predicted."""
        fate = next((one for one in self.fates if one.fits(outcome)), None)
        if fate is None:
            wanted = " or ".join(str(one) for one in self.fates)
            return [f"not as predicted: {outcome}", f"but: {wanted}"]
        if fate.data is None or canonical(fate.data) == canonical(outcome.data):
            return []
        found = difference(fate.data, outcome.data)
        fields = ", ".join(map(str, found.changes)) or "none that can be read"
        return [
            f"fields, predicted -> seen: {fields}",
            f"other bytes than predicted: {outcome.data.hex()}",
            f"not: {fate.data.hex()}",
        ]


NOT_MINE = Prediction(fates=())
"""What a forwarder that claims packets says of those that belong to no flow of it."""


def passed(data: bytes, reason: Reason) -> Prediction:
    """Return that a frame is passed as it is."""
    return Prediction(fates=(Fate(verdict=Verdict.PASS, reason=reason, data=data),))


def dropped(reason: Reason, service: int) -> Prediction:
    """Return that a packet of a service is dropped."""
    return Prediction(fates=(Fate(verdict=Verdict.DROP, reason=reason, service=service),))


def sent(
    verdict: Verdict, reason: Reason, service: int, node: TestNode | None, data: bytes
) -> Prediction:
    """Return that a frame leaves, to a node or to a client."""
    index = node.index if node is not None else None
    fate = Fate(verdict=verdict, reason=reason, service=service, node=index, data=data)
    return Prediction(fates=(fate,))
