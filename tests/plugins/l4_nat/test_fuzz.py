# SPDX-License-Identifier: Apache-2.0
"""Random and mutated packets: the compiled program does what the reference model says.

A failure names its seed; the same seed plays the same packets.
"""

from __future__ import annotations

import random
from collections import Counter
from ipaddress import ip_address

import pytest

from galelb.abi import Reason
from galelb.testing.checksums import checksum_problems
from galelb.testing.dissect import describe, dissect
from galelb.testing.model import ReferenceModel
from galelb.testing.packets import extension, fragments, frame, icmp_echo, icmp_error
from galelb.testing.rewriting import canonical
from galelb.testing.runner import TABLE_SEED, VERDICTS, PacketRunner, Verdict
from galelb.testing.world import PRIVATE, PUBLIC

pytestmark = pytest.mark.bpf

PACKETS = 12_000
CLIENTS = {4: [f"203.0.113.{n}" for n in range(1, 9)], 6: [f"2001:db8:f::{n}" for n in range(1, 9)]}
PORTS = range(30000, 30025)
FLAGS = ["S", "S", "A", "A", "PA", "FA", "R", "SA", "RA", ""]
ODD = [0, 1, 0x7F, 0x80, 0xFF]


NAMES = ["tcp_established", "tcp_syn", "tcp_fin", "udp", "udp_unreplied"]
FOREVER = {f"{name}_timeout": 8 * 3600.0 for name in NAMES}
"""The model knows no time."""


class Source:
    """Draws packets, some of them broken on purpose."""

    def __init__(self, seed: int, runner: PacketRunner, model: ReferenceModel) -> None:
        self.dice = random.Random(seed)
        self.services = list(runner.services.values())
        self.model = model
        self.drawn = [
            (self.client_packet, 40),
            (self.answer, 25),
            (self.foreign, 8),
            (self.with_extensions, 6),
            (self.error, 8),
            (self.fragment, 6),
            (self.noise, 7),
        ]

    def draw(self) -> tuple[bytes, str]:
        kinds, weights = zip(*self.drawn, strict=True)
        data, ingress = self.dice.choices(kinds, weights)[0]()
        if self.dice.random() < 0.35:
            for _ in range(self.dice.randint(1, 3)):
                data = self.mutate(data)
        return data, ingress

    def mutate(self, data: bytes) -> bytes:
        changed = bytearray(data)
        kind = self.dice.randrange(6)
        at = self.dice.randrange(min(len(changed), 90))
        if kind == 0:
            changed[at] ^= 1 << self.dice.randrange(8)
        elif kind == 1:
            changed[at] = self.dice.choice(ODD)
        elif kind == 2:
            del changed[max(14, self.dice.randrange(len(changed))) :]
        elif kind == 3:
            changed += self.dice.randbytes(self.dice.randrange(40))
        elif kind == 4:
            changed[at] = self.dice.randrange(256)
        else:
            tag = self.dice.choice([0, 5, 6, 0x6000]).to_bytes(2, "big")
            changed[12:12] = self.dice.choice([b"\x81\x00", b"\x88\xa8"]) + tag
        return bytes(changed).ljust(14, b"\0")

    def _payload(self) -> bytes:
        return self.dice.randbytes(self.dice.choice([0, 1, 2, 7, 64, 333]))

    def client_packet(self, **more) -> tuple[bytes, str]:
        service = self.dice.choice(self.services)
        values = {
            "protocol": service.protocol.name.lower(),
            "flags": self.dice.choice(FLAGS),
            "payload": self._payload(),
            "ttl": self.dice.choice([1, 2, 64, 64, 64, 64, 255]),
            "tos": self.dice.choice([0, 0, 0xB8]),
            "vlans": [service.vlan] if service.vlan else [],
        } | more
        client = self.dice.choice(CLIENTS[service.vip.version])
        port = self.dice.choice(PORTS)
        return frame(client, str(service.vip), port, service.port, **values), PUBLIC

    def with_extensions(self) -> tuple[bytes, str]:
        names = self.dice.choices(["hop", "dest", "routing"], k=self.dice.randint(1, 6))
        headers = [extension(name) for name in names]
        if self.dice.random() < 0.3:
            headers.insert(0, extension("atomic"))
        six = [s for s in self.services if s.vip.version == 6]
        service = self.dice.choice(six)
        return frame(
            self.dice.choice(CLIENTS[6]),
            str(service.vip),
            self.dice.choice(PORTS),
            service.port,
            protocol=service.protocol.name.lower(),
            extensions=headers,
        ), PUBLIC

    def answer(self, **more) -> tuple[bytes, str]:
        known = self.model.flows()
        if not known:
            return self.client_packet()
        flow = self.dice.choice(known)
        service = self.model.service(flow)
        values = {
            "protocol": service.protocol.name.lower(),
            "flags": self.dice.choice(FLAGS),
            "payload": self._payload(),
            "ttl": self.dice.choice([1, 2, 64, 64, 64]),
        } | more
        node = str(flow.node.address)
        return frame(node, str(flow.source), service.target_port, flow.port, **values), PRIVATE

    def foreign(self) -> tuple[bytes, str]:
        service = self.dice.choice(self.services)
        client = self.dice.choice(CLIENTS[service.vip.version])
        vip = service.vip
        if self.dice.random() < 0.3:
            return icmp_echo(client, str(vip)), PUBLIC
        if self.dice.random() < 0.5:
            vip = ip_address(int(vip) + self.dice.randrange(1, 5))
        port = self.dice.randrange(1, 65536)
        protocol = self.dice.choice(["tcp", "udp"])
        return frame(client, str(vip), self.dice.randrange(65536), port, protocol=protocol), PUBLIC

    def error(self) -> tuple[bytes, str]:
        inner, ingress = self.dice.choice([self.client_packet, self.answer, self.foreign])()
        packet = dissect(inner)
        assert packet is not None
        six = packet.version == 6
        kind = self.dice.choice([1, 2, 3, 4] if six else [3, 11, 12])
        cut = self.dice.choice([None, None, 28, 36, 48, 60, 20])
        src, dst = str(packet.dst), str(packet.src)
        if self.dice.random() < 0.5:
            src, dst = dst, src
        return icmp_error(src, dst, inner, kind=kind, truncate=cut), ingress

    def fragment(self) -> tuple[bytes, str]:
        data, ingress = self.dice.choice([self.client_packet, self.answer])(
            payload=self.dice.randbytes(200), ttl=64
        )
        ident = self.dice.randrange(50)
        return self.dice.choice(fragments(data, 64, ident=ident)), ingress

    def noise(self) -> tuple[bytes, str]:
        size = self.dice.randrange(0, 120)
        ethertype = self.dice.choice(
            [b"\x08\x00", b"\x86\xdd", b"\x81\x00", b"\x08\x06", b"\x12\x34"]
        )
        first = self.dice.choice([b"", b"\x45", b"\x60", b"\x4f"])
        data = self.dice.randbytes(12) + ethertype + first + self.dice.randbytes(size)
        return data, self.dice.choice([PUBLIC, PRIVATE])


def complain(seed: int, number: int, data: bytes, text: str) -> str:
    return f"seed {seed}, packet {number}: {text}\n{describe(data)}\n{data.hex()}"


def check_sanity(data: bytes, verdict: Verdict, output: bytes) -> list[str]:
    """What must hold for every packet, whatever the model knows."""
    if verdict is Verdict.PASS and output != data:
        return ["passed, but changed"]
    if verdict in (Verdict.TX, Verdict.REDIRECT) and dissect(data) and not checksum_problems(data):
        return [problem for problem in checksum_problems(output) if "inner" not in problem]
    return []


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("mode", ["full_nat", "dnat"])
def test_the_program_does_what_the_model_says(runners, mode, seed) -> None:
    runner = runners.make("xdp", mode=mode, max_flows=16384, max_slices=32, fresh=seed, **FOREVER)
    model = ReferenceModel(
        runner.world, runner.services, runner.tables, full_nat=mode == "full_nat", seed=TABLE_SEED
    )
    source = Source(seed, runner, model)
    seen: Counter[str] = Counter()

    for number in range(PACKETS):
        data, ingress = source.draw()
        prediction = model.predict(data)
        result = runner.run_raw(data, ingress)
        assert result.verdict in VERDICTS["xdp"], complain(seed, number, data, "strange verdict")
        verdict = VERDICTS["xdp"][result.verdict]
        problems = check_sanity(data, verdict, result.data)
        assert [] == problems, complain(seed, number, data, str(problems))
        if prediction is None:
            seen[f"left out: {verdict.value}"] += 1
            continue
        expected = ",".join(sorted(r.name for r in prediction.reasons))
        seen[expected] += 1
        assert verdict in prediction.verdicts, complain(seed, number, data, f"not {expected}")
        if prediction.opens is not None and verdict is not Verdict.DROP:
            wrong = model.learn(prediction, result.data)
            assert [] == wrong, complain(seed, number, data, str(wrong))
        if prediction.data is not None:
            same = canonical(prediction.data) == canonical(result.data)
            assert same, complain(
                seed, number, data, f"got {result.data.hex()}\nnot {prediction.data.hex()}"
            )

    for reason in (Reason.FORWARDED, Reason.RETURNED, Reason.PASS_FOREIGN, Reason.PASS_UNPARSABLE):
        assert PACKETS // 100 < seen[reason.name], seen
