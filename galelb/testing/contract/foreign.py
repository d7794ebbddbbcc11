# SPDX-License-Identifier: Apache-2.0
"""What is not for a service is passed untouched, whatever it is."""

from __future__ import annotations

import random

from galelb.abi import Reason
from galelb.bpf.pipeline import Context
from galelb.testing.cases import Play
from galelb.testing.contract.stage import Case, Stage, broken, cases
from galelb.testing.corpus import every_length, noise, runnable
from galelb.testing.packets import arp_request, extension, frame, icmp_echo, neighbour_request
from galelb.testing.runner import Outcome, Verdict
from galelb.testing.world import PRIVATE, PUBLIC

__all__ = ["ForeignRules"]

FOREIGN, UNREADABLE = Reason.PASS_FOREIGN, Reason.PASS_UNPARSABLE
UNTOUCHED = "What is not for a service must be passed as it is."
ROUNDS = 400


def other(p: Play, *, port: int = 0, address: int = 0, flip: bool = False) -> bytes:
    """Return a packet to nearly the service."""
    service = p.talk.service
    protocol = {"tcp": "udp", "udp": "tcp"}[p.talk.protocol] if flip else p.talk.protocol
    vip, port = str(service.vip + address), service.port + port
    return frame(p.talk.client, vip, p.talk.client_port, port, protocol=protocol)


def answer(p: Play) -> bytes:
    """Return what a node sends to a client by mistake through us: from the VIP."""
    talk = p.talk
    vip, port = str(talk.service.vip), talk.service.port
    return frame(vip, talk.client, port, talk.client_port, protocol=talk.protocol)


def retyped(data: bytes, ethertype: int) -> bytes:
    """Return the frame with another ethertype."""
    return data[:12] + ethertype.to_bytes(2, "big") + data[14:]


def another_version(data: bytes) -> bytes:
    """Return the packet with an IP version that is none."""
    return data[:14] + bytes([data[14] & 15 | 0x50]) + data[15:]


def another_protocol(data: bytes) -> bytes:
    """Return the packet as one of SCTP."""
    at = 14 + (9 if data[14] >> 4 == 4 else 6)
    return data[:at] + b"\x84" + data[at + 1 :]


def overlong(data: bytes) -> bytes:
    """Return the IPv6 packet with a first extension header, of SCTP, longer than the frame."""
    at = 14 + 40
    return data[:at] + b"\x84\xfb" + data[at + 2 :]


def _row(name: str, packet: object, reason: Reason = FOREIGN, **more: object) -> Case:
    return Case(name=name, packet=packet, reason=reason, **more)  # type: ignore[arg-type]


XDP = ("xdp",)
"""The kernel refuses such frames in a test run of TC."""
ROWS = [
    _row("another port of the vip", lambda p: other(p, port=7000)),
    _row("another address", lambda p: other(p, address=1)),
    _row("the other protocol", lambda p: other(p, flip=True)),
    _row("a protocol without services", lambda p: another_protocol(p.talk.to_vip())),
    _row("ping to the vip", lambda p: icmp_echo(p.talk.client, str(p.talk.service.vip))),
    _row("an answer of a node", answer, ingress=PRIVATE),
    _row(
        "arp",
        lambda p: arp_request(p.talk.client, str(p.talk.service.vip)),
        UNREADABLE,
        kinds=("tcp4",),
    ),
    _row(
        "neighbour solicitation",
        lambda p: neighbour_request(p.talk.client, str(p.talk.service.vip)),
        kinds=("tcp6",),
    ),
    _row("unknown ethertype", lambda p: retyped(p.talk.to_vip(), 0x88CC), UNREADABLE),
    _row("wrong ip version", lambda p: another_version(p.talk.to_vip()), UNREADABLE),
    _row(
        "an extension header longer than the frame",
        lambda p: overlong(p.talk.to_vip(extensions=[extension("hop")])),
        UNREADABLE,
        kinds=("tcp6", "udp6"),
    ),
    _row("only ethernet", lambda p: p.talk.to_vip()[:14], UNREADABLE, contexts=XDP),
    _row("half a header", lambda p: p.talk.to_vip()[:30], UNREADABLE, contexts=XDP),
    _row("cut off at its end", lambda p: p.talk.to_vip()[:-1], UNREADABLE),
    _row("untagged service, wrong tag", lambda p: p.talk.to_vip(vlans=[5])),
    _row("untagged service, two tags", lambda p: p.talk.to_vip(vlans=[0, 0])),
    _row("vlan service, untagged", lambda p: p.talk.to_vip(vlans=[]), kinds=("vlan4", "vlan6")),
    _row("vlan service, another tag", lambda p: p.talk.to_vip(vlans=[6]), kinds=("vlan4", "vlan6")),
    _row("vlan service, two tags", lambda p: p.talk.to_vip(vlans=[5, 7]), kinds=("vlan4", "vlan6")),
]


def untouched(data: bytes, ingress: str, outcome: Outcome, rule: str = UNTOUCHED) -> None:
    """Fail unless the frame was passed as it was."""
    if outcome.verdict is not Verdict.PASS or outcome.data != data:
        broken(rule, data, ingress, outcome)


class ForeignRules(Stage):
    """Part of the contract: foreign traffic is left alone."""

    @cases(ROWS)
    def test_foreign_frames_pass_untouched(self, context: Context, kind: str, case: Case) -> None:
        """ARP and ND, pings, other ports, protocols and addresses, what cannot be read."""
        play = self.start(context, kind)
        data = case.packet(play)

        outcome = self.demand(play, data, UNTOUCHED, case.reason, case.ingress)

        untouched(data, case.ingress, outcome)

    def test_noise_passes_untouched(self, context: Context) -> None:
        """Random bytes behind all kinds of ethertypes."""
        runner, dice = self.runner(context), random.Random(3)  # noqa: S311
        frames = [noise(dice) for _ in range(ROUNDS)]
        given = [(data, PUBLIC) for data in frames if runnable(context, data)]

        outcomes = runner.run_all(given)

        for (data, ingress), outcome in zip(given, outcomes, strict=True):
            untouched(data, ingress, outcome)

    def test_foreign_packets_are_untouched_at_every_length(
        self, context: Context, kind: str
    ) -> None:
        """However short a foreign packet is cut."""
        play = self.start(context, kind)
        whole = other(play, port=7000)
        given = [(data, PUBLIC) for data in every_length(whole, context)]

        outcomes = play.runner.run_all(given)

        for (data, ingress), outcome in zip(given, outcomes, strict=True):
            untouched(data, ingress, outcome)

    def test_packets_cut_off_at_every_length_pass_untouched(
        self, context: Context, kind: str
    ) -> None:
        """A packet to a service that claims more bytes than came is none that can be read."""
        rule = "A packet that is shorter than it claims must be passed as it is."
        play = self.start(context, kind)
        whole = play.talk.to_vip(payload=b"some payload")
        given = [(data, PUBLIC) for data in every_length(whole, context)]

        outcomes = play.runner.run_all(given)

        for (data, ingress), outcome in zip(given, outcomes, strict=True):
            untouched(data, ingress, outcome, rule)
