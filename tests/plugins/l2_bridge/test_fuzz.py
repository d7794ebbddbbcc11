# SPDX-License-Identifier: Apache-2.0
"""Whatever arrives: a frame is passed untouched, dropped, or sent on with other MAC addresses."""

from __future__ import annotations

import random

import pytest

from galelb.abi import Reason
from galelb.testing.cases import EVERY_KIND
from galelb.testing.packets import ETHERNET, fragments, frame, icmp_error
from galelb.testing.runner import Outcome, Verdict
from galelb.testing.world import PRIVATE, PUBLIC

pytestmark = pytest.mark.bpf

ROUNDS = 2500
"""Per seed, of which there are two."""
LARGEST = 1514
TAGS = (b"\x81\x00", b"\x88\xa8")


def corpus(play) -> list[bytes]:
    talk, service = play.talk, play.talk.service
    whole = talk.to_vip(payload=bytes(range(200)))
    answer = frame(
        str(service.vip), talk.client, service.port, talk.client_port, protocol=talk.protocol
    )
    kind = {4: 3, 6: 1}[service.vip.version]
    error = icmp_error(talk.client, str(service.vip), answer, kind=kind)
    return [whole, talk.to_vip(vlans=[5]), talk.to_vip(minimum=60), error, *fragments(whole, 64)]


def mutated(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 2, 8))):
        changed[rng.randrange(ETHERNET - 2, len(changed))] = rng.randrange(256)
    if rng.random() < 0.2:
        del changed[rng.randrange(ETHERNET, len(changed)) :]
    if rng.random() < 0.1:
        changed += rng.randbytes(rng.randrange(1, 200))
    if rng.random() < 0.1:
        changed[12:12] = rng.choice(TAGS) + rng.randbytes(2)
    return bytes(changed[:LARGEST]).ljust(ETHERNET, b"\0")


def check(data: bytes, outcome: Outcome, ingress: str) -> None:
    message = f"{data.hex()} on {ingress}: {outcome}"
    if outcome.verdict is Verdict.PASS:
        assert data == outcome.data, message
    elif outcome.verdict is not Verdict.DROP and outcome.reason is not Reason.ICMP_SENT:
        untagged = (
            data[12:] if data[12:14] not in TAGS or outcome.verdict is Verdict.TX else data[16:]
        )
        assert untagged == outcome.data[12:], message
        assert outcome.node, message
        assert outcome.out == PRIVATE, message


@pytest.mark.parametrize("seed", [1, 2])
def test_no_packet_is_changed_beyond_its_mac_addresses(bridge, seed) -> None:
    rng = random.Random(seed)
    play = bridge("xdp", "tcp4")
    frames = [data for kind in EVERY_KIND for data in corpus(bridge("xdp", kind))]
    seen = set()
    for _ in range(ROUNDS):
        data, ingress = mutated(rng, rng.choice(frames)), rng.choice((PUBLIC, PRIVATE))
        outcome = play.runner.run(data, ingress)
        seen.add(outcome.reason)

        check(data, outcome, ingress)

    assert {Reason.PASS_FOREIGN, Reason.FORWARDED, Reason.ICMP_TRANSLATED} <= seen
    assert {Reason.PASS_UNPARSABLE, Reason.FRAGMENT_FOLLOWED} <= seen


def test_noise_passes_untouched(bridge) -> None:
    rng = random.Random(3)
    play = bridge("xdp", "tcp4")
    for _ in range(500):
        data = rng.randbytes(rng.randrange(ETHERNET, 300))

        outcome = play.runner.run(data)

        assert (Verdict.PASS, data) == (outcome.verdict, outcome.data)
