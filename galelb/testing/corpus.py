# SPDX-License-Identifier: Apache-2.0
"""Packets of every kind for a runner's services, and mutations of them, drawn by dice."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from galelb.model import Service
from galelb.testing.dissect import dissect
from galelb.testing.packets import (
    ETHERNET,
    arp_request,
    extension,
    fragments,
    frame,
    icmp_echo,
    icmp_error,
)
from galelb.testing.runner import PacketRunner
from galelb.testing.world import PRIVATE, PUBLIC

__all__ = ["LARGEST", "Corpus", "every_length", "mutate", "noise", "runnable"]

LARGEST = 1514
CLIENTS = {4: "203.0.113.{}", 6: "2001:db8:f::{}"}
PORTS = range(30000, 30025)
FLAGS = ("S", "S", "A", "A", "PA", "FA", "R", "SA", "RA", "")
SIZES = (0, 1, 2, 7, 64, 333, 1400)
TAGS = (b"\x81\x00", b"\x88\xa8")
ODD = (0, 1, 0x7F, 0x80, 0xFF)
HEADERS = 90
"""Mutations touch about this much of a frame's beginning: that is what programs read."""
ERRORS = {4: (3, 11, 12), 6: (1, 2, 3, 4)}
LEAST = {b"\x08\x00": 34, b"\x86\xdd": 54}


class Corpus:
    """Valid packets of all kinds; the same seed makes the same ones.

    `frames` are (frame, interface). Draw from them with `draw`, which spoils one in three.
    """

    def __init__(self, seed: int, runner: PacketRunner, *, size: int = 600) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - the same packets every time
        self._services = list(runner.services.values())
        self._nodes = runner.world.nodes
        self.frames: list[tuple[bytes, str]] = []
        kinds: tuple[tuple[Callable[[], list[bytes]], int], ...] = (
            (self._clients, 40),
            (self._with_headers, 10),
            (self._foreign, 12),
            (self._errors, 20),
            (self._fragments, 6),
            (self._hairpin, 3),
        )
        makers, weights = zip(*kinds, strict=True)
        while len(self.frames) < size:
            for data in self.dice.choices(makers, weights)[0]():
                ingress = PRIVATE if self.dice.random() < 0.25 else PUBLIC
                self.frames.append((data, ingress))

    def draw(self) -> tuple[bytes, str]:
        """Return a frame with its interface, as it is or spoiled."""
        if self.dice.random() < 0.05:
            return noise(self.dice), self.dice.choice((PUBLIC, PRIVATE))
        data, ingress = self.dice.choice(self.frames)
        if self.dice.random() < 0.35:
            for _ in range(self.dice.randint(1, 3)):
                data = mutate(self.dice, data)
        return data, ingress

    def _client(self, service: Service) -> tuple[str, int]:
        text = CLIENTS[service.vip.version].format(self.dice.randrange(1, 9))
        return text, self.dice.choice(PORTS)

    def client_packet(self, service: Service | None = None, **more: object) -> bytes:
        """Return a packet to a service, any one unless it is named."""
        service = service or self.dice.choice(self._services)
        client, port = self._client(service)
        values = {
            "protocol": service.protocol.name.lower(),
            "flags": self.dice.choice(FLAGS),
            "payload": self.dice.randbytes(self.dice.choice(SIZES)),
            "ttl": self.dice.choice((1, 2, 64, 64, 64, 64, 64, 255)),
            "tos": self.dice.choice((0, 0, 0xB8, 0x01)),
            "vlans": [service.vlan] if service.vlan else [],
        } | more
        return frame(client, str(service.vip), port, service.port, **values)  # type: ignore[arg-type]

    def _clients(self) -> list[bytes]:
        return [self.client_packet()]

    def _with_headers(self) -> list[bytes]:
        service = self.dice.choice(self._services)
        if service.vip.version == 4:
            return [
                self.client_packet(service, options=self.dice.choice((b"\x94\x04", b"\1" * 40)))
            ]
        names = self.dice.choices(["hop", "dest", "routing"], k=self.dice.randint(1, 6))
        if self.dice.random() < 0.3:
            names.insert(0, "atomic")
        return [self.client_packet(service, extensions=[extension(name) for name in names])]

    def _hairpin(self) -> list[bytes]:
        service = self.dice.choice(self._services)
        mine = [n for n in self._nodes if n.address.version == service.vip.version]
        node, protocol = self.dice.choice(mine), service.protocol.name.lower()
        return [frame(str(node.address), str(service.vip), 4711, service.port, protocol=protocol)]

    def _foreign(self) -> list[bytes]:
        service = self.dice.choice(self._services)
        client, port = self._client(service)
        vip = service.vip + self.dice.choice((0, 0, 1, 7))
        protocol = self.dice.choice(("tcp", "udp"))
        kind = self.dice.randrange(5)
        if kind == 0:
            return [icmp_echo(client, str(vip))]
        if kind == 1 and vip.version == 4:
            return [arp_request(client, str(vip))]
        other = frame(client, str(vip), port, self.dice.randrange(1, 65536), protocol=protocol)
        return [other]

    def _errors(self) -> list[bytes]:
        """ICMP errors about answers of nodes, about packets of clients, about anything."""
        service = self.dice.choice(self._services)
        client, port = self._client(service)
        own = service.port if self.dice.random() < 0.9 else 9
        protocol, tags = service.protocol.name.lower(), [service.vlan] if service.vlan else []
        quoted = frame(
            str(service.vip), client, own, port, protocol=protocol, payload=self.dice.randbytes(60)
        )
        if self.dice.random() < 0.15:
            quoted = self.client_packet(service, vlans=[])
        packet = dissect(quoted)
        assert packet is not None
        kind = self.dice.choice(ERRORS[service.vip.version])
        cut = self.dice.choice((None, None, 28, 36, 48, 60, 20))
        ttl = self.dice.choice((1, 64, 64, 64))
        router = CLIENTS[service.vip.version].format(99)
        target = str(packet.src)
        return [icmp_error(router, target, quoted, kind=kind, truncate=cut, ttl=ttl, vlans=tags)]

    def _fragments(self) -> list[bytes]:
        """A datagram in parts; the identification is one of few, so that some meet."""
        whole = self.client_packet(payload=self.dice.randbytes(200), ttl=64)
        if self.dice.random() < 0.2:
            whole = self._foreign()[0]
            packet = dissect(whole)
            if packet is None or len(whole) < 100:
                whole = self.client_packet(payload=self.dice.randbytes(150))
        return fragments(whole, 64, ident=self.dice.randrange(50))


def mutate(dice: random.Random, data: bytes) -> bytes:
    """Return the frame with one thing wrong: a bit, a byte, its length, a tag."""
    changed = bytearray(data)
    kind, at = dice.randrange(7), dice.randrange(min(len(changed), HEADERS))
    if kind == 0:
        changed[at] ^= 1 << dice.randrange(8)
    elif kind == 1:
        changed[at] = dice.choice(ODD)
    elif kind == 2:
        del changed[max(ETHERNET, dice.randrange(len(changed))) :]
    elif kind == 3:
        changed += dice.randbytes(dice.randrange(40))
    elif kind == 4:
        changed[at] = dice.randrange(256)
    elif kind == 5:
        tag = dice.choice((0, 5, 6, 0x6000)).to_bytes(2, "big")
        changed[12:12] = dice.choice(TAGS) + tag
    else:
        changed[at : at + 2] = dice.randbytes(2)
    return bytes(changed[:LARGEST]).ljust(ETHERNET, b"\0")


def noise(dice: random.Random) -> bytes:
    """Return random bytes behind an ethertype that may be IP's."""
    ethertype = dice.choice((b"\x08\x00", b"\x86\xdd", b"\x81\x00", b"\x08\x06", b"\x12\x34"))
    first = dice.choice((b"", b"\x45", b"\x60", b"\x4f"))
    return dice.randbytes(12) + ethertype + first + dice.randbytes(dice.randrange(120))


def runnable(context: str, data: bytes) -> bool:
    """Whether the kernel takes the frame for a test run: under TC no shorter than its headers."""
    if context == "xdp":
        return len(data) >= ETHERNET
    return len(data) >= LEAST.get(data[12:14], ETHERNET + 1)


def every_length(data: bytes, context: str) -> Sequence[bytes]:
    """Return the frame cut off at every length that can be run."""
    cut = (data[:length] for length in range(ETHERNET, len(data)))
    return [short for short in cut if runnable(context, short)]
