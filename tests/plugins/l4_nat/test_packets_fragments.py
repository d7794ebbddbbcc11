# SPDX-License-Identifier: Apache-2.0
"""Packet table of l4_nat: fragments follow their first one, in both directions."""

from __future__ import annotations

import pytest

from galelb.abi import Reason
from galelb.testing.cases import PacketCase, Play, check, established, table
from galelb.testing.dissect import dissect
from galelb.testing.packets import extension, fragments
from galelb.testing.runner import Verdict
from galelb.testing.world import PRIVATE, PUBLIC

pytestmark = pytest.mark.bpf

V6 = ("tcp6", "udp6")
UDP = ("udp4", "udp6")
SIZE = 64
BODY = {"payload": bytes(range(251))}
"""Five fragments, the last one of an odd length."""


def ident(data: bytes) -> int:
    packet = dissect(data)
    assert packet is not None
    return packet.ident


def to_vip(p: Play, n: int, **more) -> bytes:
    return fragments(p.talk.to_vip(**BODY | more), SIZE)[n]


def to_node(p: Play, n: int, **more) -> bytes:
    """The n-th fragment at the node, with the identification that the first one got."""
    first = next(o for o in p.outcomes if o.reason is Reason.FORWARDED and is_fragment(o.data))
    return fragments(p.talk.to_node(**BODY | more), SIZE, ident=ident(first.data))[n]


def from_node(p: Play, n: int) -> bytes:
    return fragments(p.talk.from_node(**BODY), SIZE)[n]


def to_client(p: Play, n: int) -> bytes:
    first = next(o for o in p.outcomes if o.reason is Reason.RETURNED and is_fragment(o.data))
    return fragments(p.talk.to_client(**BODY), SIZE, ident=ident(first.data))[n]


def is_fragment(data: bytes) -> bool:
    packet = dissect(data)
    return packet is not None and packet.fragment


def first_forwarded(p: Play) -> None:
    p.send(to_vip(p, 0))


def first_returned(p: Play) -> None:
    p.establish()
    p.send(from_node(p, 0), PRIVATE)


def flow_first_forwarded(p: Play) -> None:
    p.establish()
    p.send(to_vip(p, 0))


def goes(name: str, n: int, *, given=first_forwarded, reason=Reason.FRAGMENT_FOLLOWED, **more):
    return PacketCase(
        name=name,
        packet=lambda p: to_vip(p, n),
        expect=lambda p: to_node(p, n),
        verdict=Verdict.REDIRECT,
        reason=reason,
        out=PRIVATE,
        given=given,
        **more,
    )


def comes(name: str, n: int, *, given=first_returned, reason=Reason.FRAGMENT_FOLLOWED, **more):
    return PacketCase(
        name=name,
        packet=lambda p: from_node(p, n),
        expect=lambda p: to_client(p, n),
        verdict=Verdict.REDIRECT,
        reason=reason,
        out=PUBLIC,
        given=given,
        ingress=PRIVATE,
        **more,
    )


CASES = [
    goes("first fragment of a new flow", 0, given=lambda p: None, reason=Reason.FORWARDED),
    goes("first fragment of an old flow", 0, given=established, reason=Reason.FORWARDED),
    goes("second fragment", 1),
    goes("second fragment of an old flow", 1, given=flow_first_forwarded),
    goes("last fragment of an odd length", 4),
    goes("fragments out of order after the first", 3),
    comes("first fragment of an answer", 0, given=established, reason=Reason.RETURNED),
    comes("second fragment of an answer", 1),
    comes("last fragment of an answer", 4),
    PacketCase(
        name="ipv6 atomic fragment is a whole packet",
        packet=lambda p: p.talk.to_vip(extensions=[extension("atomic")], payload=b"whole"),
        expect=lambda p: p.talk.to_node(extensions=[extension("atomic")], payload=b"whole"),
        verdict=Verdict.REDIRECT,
        reason=Reason.FORWARDED,
        kinds=V6,
    ),
]


@pytest.mark.parametrize(("mode", "context", "kind", "case"), table(CASES))
def test_fragments(nat, mode, context, kind, case) -> None:
    check(case, nat(mode, context, kind))


@pytest.mark.parametrize("kind", UDP)
def test_each_datagram_gets_a_fresh_identification(nat, kind) -> None:
    """Two clients may use one identification at a time; behind the balancer they must differ."""
    plays = [nat("full_nat", "xdp", kind) for _ in range(8)]

    idents = {ident(p.send(to_vip(p, 0)).data) for p in plays}

    assert 8 == len(idents)


EXTENSIONS = [
    ["hop"],
    ["dest"],
    ["routing"],
    ["auth", "dest"],
    ["hop", "dest", "routing", "auth", "dest"],
]


@pytest.mark.parametrize("kinds", EXTENSIONS, ids="+".join)
@pytest.mark.parametrize("kind", V6)
@pytest.mark.parametrize("context", ["xdp", "tc"])
@pytest.mark.parametrize("mode", ["full_nat", "dnat"])
def test_extension_headers_are_carried(nat, mode, context, kind, kinds) -> None:
    headers = [extension(name) for name in kinds]
    more = {"extensions": headers, "payload": b"behind headers"}
    case = PacketCase(
        name="extensions",
        packet=lambda p: p.talk.to_vip(**more),
        expect=lambda p: p.talk.to_node(**more),
        verdict=Verdict.REDIRECT,
        reason=Reason.FORWARDED,
    )
    back = PacketCase(
        name="extensions",
        packet=lambda p: p.talk.from_node(**more),
        expect=lambda p: p.talk.to_client(**more),
        verdict=Verdict.REDIRECT,
        reason=Reason.RETURNED,
        ingress=PRIVATE,
    )
    play = nat(mode, context, kind)

    check(case, play)
    check(back, play)
