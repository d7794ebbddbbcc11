# SPDX-License-Identifier: Apache-2.0
"""A peer that has the key and tells nonsense: the tables stay whole, whatever it says."""

from __future__ import annotations

import random

import pytest
from galelb_plugins.l4_nat.batch import RECORDS

from galelb.abi import Reason
from galelb.errors import RemoteProtocolError
from galelb.testing.world import PRIVATE

pytestmark = pytest.mark.bpf

KINDS = ["tcp4", "udp4", "tcp6", "udp6"]
SEEDS = range(3)
BATCHES = 150
_FLOWS_AT = 12
"""Where the head says how many flows a batch has."""
_EDGES = (0, 1, 0x7F, 0x80, 0xFF)


def spoilt(batch: bytes, rng: random.Random) -> bytes:
    """Return a batch whose flows differ in some bytes, or of which any byte does."""
    data = bytearray(batch)
    size = RECORDS[data[1]].itemsize
    flows = int.from_bytes(batch[_FLOWS_AT : _FLOWS_AT + 4], "little") * size
    begin = 0 if rng.random() < 0.2 else len(data) - flows
    for _ in range(rng.randrange(1, 12)):
        octet = rng.choice(_EDGES) if rng.random() < 0.5 else rng.randrange(256)
        data[rng.randrange(begin, len(data))] = octet
    if rng.random() < 0.3:
        # The same client or port several times in one batch.
        start = len(data) - flows
        one = data[start : start + size]
        at = start + size * rng.randrange(flows // size)
        half = rng.choice((slice(0, size // 2), slice(size // 2, size), slice(0, size)))
        part = bytearray(data[at : at + size])
        part[half] = one[half]
        data[at : at + size] = part
    return bytes(data)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", ["full_nat", "dnat"])
def test_nonsense_of_a_peer_leaves_the_tables_whole(group, audit, mode, seed) -> None:
    # Of its own: other tests leave flows whose node is gone, and the audit knows nodes by slices.
    first, second = group(mode, name="hostile")
    rng = random.Random(seed)
    for kind in KINDS:
        for _ in range(6):
            first.play(kind).establish()
    batches = list(first.share.everything())
    taken = refused = 0

    for _ in range(BATCHES):
        try:
            result = second.share.accept(spoilt(rng.choice(batches), rng))
        except RemoteProtocolError:
            refused += 1
        else:
            taken += result.added
    problems = audit(second.runner).problems
    for batch in batches:
        second.share.accept(batch)
    list(second.share.everything())
    second.share.changes()

    assert [] == problems
    assert [] == audit(second.runner).problems
    assert taken
    assert refused
    for kind in KINDS:
        # It still makes flows of its own, and they work both ways.
        play = second.play(kind)
        play.establish()
        flags = {"flags": "A"} if play.tcp else {}
        out = play.send(play.talk.to_vip(payload=b"x", **flags), play.client_side)
        back = play.send(play.talk.from_node(payload=b"y", **flags), PRIVATE)
        assert (Reason.FORWARDED, Reason.RETURNED) == (out.reason, back.reason)
    assert [] == audit(second.runner).problems
