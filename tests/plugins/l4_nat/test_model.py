# SPDX-License-Identifier: Apache-2.0
"""Random and mutated packets: the compiled program does what the reference model says.

A failure names its seed; the same seed plays the same packets.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from galelb.abi import Reason
from galelb.testing.corpus import Corpus, mutate
from galelb.testing.differential import compare
from galelb.testing.model import NatModel, ReferenceModel
from galelb.testing.packets import frame, icmp_error
from galelb.testing.world import PRIVATE

pytestmark = pytest.mark.bpf

PACKETS = 6_000
FLAGS = ["S", "S", "A", "A", "PA", "FA", "R", "SA", "RA", ""]
NAMES = ["tcp_established", "tcp_syn", "tcp_fin", "udp", "udp_unreplied"]
FOREVER = {f"{name}_timeout": 8 * 3600.0 for name in NAMES}
"""The model knows no time."""


class Source:
    """Draws clients' packets, and answers of the nodes to flows that are known meanwhile."""

    def __init__(self, corpus: Corpus, part: NatModel) -> None:
        self.corpus = corpus
        self.dice = corpus.dice
        self.part = part

    def frames(self, count: int) -> Iterator[tuple[bytes, str]]:
        for _ in range(count):
            known = self.dice.random() < 0.3 and self.part.flows()
            draw = self.dice.choice([self.answer, self.answer, self.error])
            yield draw(known) if known else self.corpus.draw()

    def answer(self, known) -> tuple[bytes, str]:
        flow = self.dice.choice(known)
        service = self.part.service(flow)
        data = frame(
            str(flow.node.address),
            str(flow.source),
            service.target_port,
            flow.port,
            protocol=service.protocol.name.lower(),
            flags=self.dice.choice(FLAGS),
            payload=self.dice.randbytes(self.dice.choice([0, 1, 2, 7, 64, 333])),
            ttl=self.dice.choice([1, 2, 64, 64, 64]),
        )
        if self.dice.random() < 0.35:
            data = mutate(self.dice, data)
        return data, PRIVATE

    def error(self, known) -> tuple[bytes, str]:
        """A node's complaint about a packet that we sent to it."""
        flow = self.dice.choice(known)
        service = self.part.service(flow)
        node, source = str(flow.node.address), str(flow.source)
        protocol, body = service.protocol.name.lower(), self.dice.randbytes(33)
        sent = frame(source, node, flow.port, service.target_port, protocol=protocol, payload=body)
        kind = self.dice.choice({4: (3, 11, 12), 6: (1, 2, 3, 4)}[service.vip.version])
        cut = self.dice.choice([None, 28, 48, 61])
        data = icmp_error(node, source, sent, kind=kind, truncate=cut)
        return mutate(self.dice, data) if self.dice.random() < 0.35 else data, PRIVATE


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("context", ["xdp", "tc"])
@pytest.mark.parametrize("mode", ["full_nat", "dnat"])
def test_the_program_does_what_the_model_says(runners, mode, context, seed) -> None:
    runner = runners.make(context, mode=mode, max_flows=16384, max_slices=32, fresh=seed, **FOREVER)
    part = NatModel(full_nat=mode == "full_nat")
    model = ReferenceModel(runner, {"l4_nat": part})
    source = Source(Corpus(seed, runner), part)

    seen = compare(runner, model, source.frames(PACKETS), about=f"seed {seed}")

    for reason in (
        Reason.FORWARDED,
        Reason.RETURNED,
        Reason.ICMP_TRANSLATED,
        Reason.PASS_FOREIGN,
        Reason.PASS_UNPARSABLE,
    ):
        assert PACKETS // 100 < seen[reason.name], seen
