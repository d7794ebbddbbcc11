# SPDX-License-Identifier: Apache-2.0
"""Packet table of l4_nat: VLAN tags, one interface for both sides, nodes that are clients."""

from __future__ import annotations

import pytest

from galelb.abi import Reason
from galelb.testing.cases import PacketCase, Play, check, table
from galelb.testing.packets import fragments, frame, icmp_error
from galelb.testing.runner import Verdict
from galelb.testing.world import PRIVATE, PRIVATE_MAC, TestNode

pytestmark = pytest.mark.bpf

TCP = ("tcp4", "tcp6")
WAYS = [
    (m, c, k) for m in ("full_nat", "dnat") for c in ("xdp", "tc") for k in (*TCP, "udp4", "udp6")
]
PRIORITY = 3 << 13


# VLAN


def tagged(name: str, packet: dict, verdict=Verdict.PASS, expect=None, **more) -> PacketCase:
    reasons = {Verdict.PASS: Reason.PASS_FOREIGN, Verdict.REDIRECT: Reason.FORWARDED}
    return PacketCase(
        name=name,
        packet=lambda p: p.talk.to_vip(**packet),
        expect=expect,
        verdict=verdict,
        reason=reasons[verdict],
        **more,
    )


def untagged_at_node(p: Play) -> bytes:
    return p.talk.to_node()


VLAN = ("vlan4", "vlan6")
TAGS = [
    tagged("priority tag", {"vlans": [PRIORITY]}, Verdict.REDIRECT, untagged_at_node),
    tagged("vlan service, its tag", {}, Verdict.REDIRECT, untagged_at_node, kinds=VLAN),
    tagged(
        "vlan service, its tag with a priority",
        {"vlans": [PRIORITY | 5]},
        Verdict.REDIRECT,
        untagged_at_node,
        kinds=VLAN,
    ),
    tagged("vlan service, priority tag", {"vlans": [PRIORITY]}, kinds=VLAN),
    tagged("vlan service, its tag outside", {"vlans": [5, 7]}, kinds=VLAN),
    tagged("vlan service, its tag inside", {"vlans": [7, 5]}, kinds=VLAN),
    PacketCase(
        name="vlan service, answer gets its tag",
        given=lambda p: p.open(),
        packet=lambda p: p.talk.from_node(payload=b"answer"),
        expect=lambda p: p.talk.to_client(payload=b"answer"),
        verdict=Verdict.REDIRECT,
        reason=Reason.RETURNED,
        ingress=PRIVATE,
        kinds=VLAN,
        contexts=("xdp",),  # in TC the pushed tag lies beside the frame
    ),
]


@pytest.mark.parametrize(("mode", "context", "kind", "case"), table(TAGS))
def test_tags(nat, mode, context, kind, case) -> None:
    check(case, nat(mode, context, kind))


@pytest.mark.parametrize("vlans", [[0], [PRIORITY], [6], [5]])
@pytest.mark.parametrize("kind", VLAN)
@pytest.mark.parametrize("mode", ["full_nat", "dnat"])
def test_the_tag_of_an_answer_is_replaced_by_the_service_s(nat, mode, kind, vlans) -> None:
    """Nodes may be on a VLAN of their own; clients are on the service's."""
    play = nat(mode, "xdp", kind)
    play.open()

    outcome = play.send(play.talk.from_node(payload=b"x", vlans=vlans), PRIVATE)

    assert play.talk.to_client(payload=b"x") == outcome.data


@pytest.mark.parametrize("vlans", [[0], [6]])
@pytest.mark.parametrize(("mode", "kind"), [(m, k) for m in ("full_nat", "dnat") for k in TCP])
def test_the_tag_of_an_answer_is_removed(nat, mode, kind, vlans) -> None:
    play = nat(mode, "xdp", kind)
    play.open()

    outcome = play.send(play.talk.from_node(payload=b"x", vlans=vlans), PRIVATE)

    assert play.talk.to_client(payload=b"x") == outcome.data


def double_tagged(play: Play) -> list[bytes]:
    """What belongs to a flow, but lies behind two tags: an answer, an error, a fragment."""
    talk = play.talk
    tags = b"\x81\x00\x00\x07\x81\x00\x00\x08"
    answer = talk.from_node(payload=bytes(100))
    kind = {4: 3, 6: 1}[talk.service.vip.version]
    error = icmp_error(str(talk.reached.address), talk.source, talk.to_node(), kind=kind)
    plain = [answer, error, *fragments(answer, 64)]
    return [data[:12] + tags + data[12:] for data in plain]


@pytest.mark.parametrize(("mode", "context", "kind"), WAYS)
def test_behind_two_tags_nothing_is_ours(nat, mode, context, kind) -> None:
    play = nat(mode, context, kind)
    play.establish()

    for data in double_tagged(play):
        outcome = play.send(data, PRIVATE)
        assert (Verdict.PASS, data) == (outcome.verdict, outcome.data), str(outcome)


def test_a_tag_stays_when_leaving_by_the_same_interface(nat) -> None:
    play = nat("full_nat", "xdp", "vlan4", local=True)

    first = play.open()
    back = play.send(play.talk.from_node(flags="SA", vlans=[5]), PRIVATE)

    assert (Verdict.TX, play.talk.to_node(flags="S", vlans=[5])) == (first.verdict, first.data)
    assert (Verdict.TX, play.talk.to_client(flags="SA")) == (back.verdict, back.data)


# one interface, hairpin


@pytest.mark.parametrize(("mode", "context", "kind"), WAYS)
def test_one_interface_serves_both_sides(nat, mode, context, kind) -> None:
    play = nat(mode, context, kind, local=True)
    tx = Verdict.REDIRECT if context == "tc" else Verdict.TX

    there = play.send(play.talk.to_vip(payload=b"there"), PRIVATE)
    back = play.send(play.talk.from_node(payload=b"back"), PRIVATE)

    assert (tx, Reason.FORWARDED) == (there.verdict, there.reason)
    assert play.talk.to_node(payload=b"there") == there.data
    assert (tx, Reason.RETURNED) == (back.verdict, back.reason)
    assert play.talk.to_client(payload=b"back") == back.data


def from_a_node(play: Play) -> tuple[TestNode, bytes]:
    """A packet of a node that is a client of the service itself."""
    service = play.talk.service
    node = next(n for n in play.runner.world.nodes if n.address.version == service.vip.version)
    data = frame(
        str(node.address),
        str(service.vip),
        play.talk.client_port,
        service.port,
        protocol=play.talk.protocol,
        src_mac=node.mac,
        dst_mac=PRIVATE_MAC,
    )
    return node, data


@pytest.mark.parametrize(("mode", "context", "kind"), WAYS)
def test_a_node_may_be_a_client_in_full_nat_only(nat, mode, context, kind) -> None:
    play = nat(mode, context, kind)
    _, data = from_a_node(play)

    outcome = play.send(data, PRIVATE)

    expected = {"full_nat": Reason.FORWARDED, "dnat": Reason.HAIRPIN}[mode]
    assert expected == outcome.reason, str(outcome)


@pytest.mark.parametrize("kind", ["tcp4", "udp6"])
def test_hairpin_answers_find_their_way_in_full_nat(nat, kind) -> None:
    play = nat("full_nat", "xdp", kind)
    node, data = from_a_node(play)
    play.send(data, PRIVATE)

    answer = play.send(play.talk.from_node(payload=b"answer"), PRIVATE)

    assert (Verdict.TX, Reason.RETURNED) == (answer.verdict, answer.reason)
    assert bytes.fromhex(node.mac.replace(":", "")) == answer.data[:6]
