# SPDX-License-Identifier: Apache-2.0
"""SyncTransportContract: what every sync transport promises, as tests that a plugin inherits."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio

from galelb.errors import LocalProtocolError
from galelb.model import IPAddress, Peer
from galelb.transport import (
    MAX_RECORD_KEY,
    MAX_RECORD_VALUE,
    MAX_RECORDS,
    SyncTransport,
    TransportContext,
)

__all__ = ["Balancer", "SyncTransportContract"]

Place = tuple[IPAddress, int]


class Balancer:
    """One transport at work, and what it told its core."""

    def __init__(self, name: str, place: Place) -> None:
        self.name = name
        self.place = place
        self.peers: dict[str, Peer] = {}
        self.records: dict[str, dict[str, bytes]] = {}
        self.problems: list[str] = []
        self.told: list[Peer] = []
        """All that was said of peers, in its order."""
        self.transport: SyncTransport | None = None
        self._writing = False
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    def peer_changed(self, peer: Peer) -> None:
        """Take in what the transport says of a peer."""
        self._called("peer_changed", peer.name)
        self.peers[peer.name] = peer
        self.told.append(peer)

    def record_changed(self, name: str, key: str, value: bytes | None) -> None:
        """Take in what the transport says of a record."""
        self._called("record_changed", name)
        if name not in self.peers:
            self.problems.append(f"record {key} came before its peer {name}")
        mine = self.records.setdefault(name, {})
        if value is None:
            mine.pop(key, None)
        else:
            mine[key] = value

    def write(self, key: str, value: bytes | None) -> None:
        """Write a record; callbacks meanwhile are noted as problems."""
        assert self.transport is not None
        self._writing = True
        try:
            self.transport.write(key, value)
        finally:
            self._writing = False

    def sees(self, name: str, records: dict[str, bytes]) -> bool:
        """Whether it knows exactly these records of a live peer."""
        return self.alive(name) and self.records.get(name, {}) == records

    def alive(self, name: str) -> bool:
        """Whether it takes a peer for alive."""
        return name in self.peers and self.peers[name].alive

    def has_left(self, name: str) -> bool:
        """Whether a peer said goodbye, and all of its records are gone."""
        peer = self.peers.get(name)
        return peer is not None and peer.left and not peer.alive and not self.records.get(name)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Run the transport until `crash`."""
        assert self.transport is not None
        with self._scope:
            await self.transport.run(task_status=task_status)
        self._ended.set()

    async def crash(self) -> None:
        """End it without a goodbye."""
        self._scope.cancel()
        await self._ended.wait()

    def _called(self, what: str, name: str) -> None:
        if self._writing:
            self.problems.append(f"{what} was called from within write")
        if name in ("", self.name):
            self.problems.append(f"{what} was called for {name!r}")


class Stage:
    """The balancers of one test."""

    def __init__(self, contract: SyncTransportContract, directory: Path) -> None:
        self._contract = contract
        self._directory = directory
        self._places = dict(zip("abcd", _places(4), strict=True))
        self._nursery: trio.Nursery | None = None
        self.all: list[Balancer] = []

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Stage]:
        """Run until the block ends; then no balancer may have broken a rule."""
        with trio.fail_after(self._contract.limit_s):
            async with self._contract.network(self._directory), trio.open_nursery() as nursery:
                self._nursery = nursery
                yield self
                nursery.cancel_scope.cancel()
        assert [problem for one in self.all for problem in one.problems] == []

    def make(self, name: str) -> Balancer:
        """Return a balancer that does not run yet; the names are a to d."""
        folder = self._directory / name
        folder.mkdir(exist_ok=True)
        balancer = Balancer(name, self._places[name])
        context = TransportContext(
            name=name,
            address=balancer.place[0],
            port=balancer.place[1],
            peers=tuple(place for other, place in self._places.items() if other != name),
            directory=folder,
            peer_changed=balancer.peer_changed,
            record_changed=balancer.record_changed,
        )
        options = self._contract.options(self._directory, name)
        balancer.transport = self._contract.transport(options, context)
        self.all.append(balancer)
        return balancer

    async def run(self, balancer: Balancer) -> Balancer:
        """Let a balancer work."""
        assert self._nursery is not None
        await self._nursery.start(balancer.run)
        return balancer

    async def start(self, *names: str) -> list[Balancer]:
        """Make and run balancers, and wait until they know each other."""
        made = [await self.run(self.make(name)) for name in names]
        await until(
            lambda: all(one.alive(other) for one in made for other in names if other != one.name)
        )
        return made


async def until(holds: Callable[[], bool]) -> None:
    """Wait until a condition holds; the limit of the whole test ends it otherwise."""
    while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
        await trio.sleep(0.01)


class SyncTransportContract:
    """Inherit it in a class whose name starts with Test, and name the transport.

        class TestContract(SyncTransportContract):
            transport = MyTransport

    Override `options`, `network`, `cut` and `heal`. Each method that begins with test is a test;
    none needs root by itself. All waiting is for conditions, so it may run in virtual time.
    """

    transport: ClassVar[type[SyncTransport]]
    limit_s: ClassVar[float] = 60.0
    """Of each test."""

    def options(self, directory: Path, name: str) -> Any:
        """Return the options of one balancer."""
        del directory, name
        return self.transport.Options()

    @contextlib.asynccontextmanager
    async def network(self, directory: Path) -> AsyncIterator[None]:
        """Run what balancers need to talk, such as a server; by default nothing."""
        del directory
        yield

    async def cut(self, name: str) -> None:
        """Let nothing reach or leave this balancer."""
        pytest.fail(f"override cut and heal, which {name} needs")

    async def heal(self, name: str) -> None:
        """Undo `cut`."""
        pytest.fail(f"override cut and heal, which {name} needs")

    @pytest.mark.trio
    async def test_records_of_all_reach_all(self, tmp_path: Path) -> None:
        """Each comes to know the records of each other, with any bytes in them."""
        async with Stage(self, tmp_path).open() as stage:
            made = await stage.start("a", "b", "c")
            for one in made:
                one.write("k/\N{GREEK SMALL LETTER BETA}", bytes(range(256)) + one.name.encode())
                one.write("empty", b"")
            for one in made:
                for other in made:
                    if other is not one:
                        value = bytes(range(256)) + other.name.encode()
                        wanted = {"k/\N{GREEK SMALL LETTER BETA}": value, "empty": b""}
                        await until(partial(one.sees, other.name, wanted))

    @pytest.mark.trio
    async def test_a_peer_is_told_with_its_place(self, tmp_path: Path) -> None:
        """Address and port are those that the peer listens at."""
        async with Stage(self, tmp_path).open() as stage:
            a, b = await stage.start("a", "b")
            assert a.peers["b"] == Peer(address=b.place[0], port=b.place[1], alive=True, name="b")

    @pytest.mark.trio
    async def test_a_thousand_records_arrive(self, tmp_path: Path) -> None:
        """Many records of one balancer reach the others."""
        async with Stage(self, tmp_path).open() as stage:
            a, b = await stage.start("a", "b")
            records = {f"r{number}": number.to_bytes(4, "big") * 25 for number in range(1000)}
            for key, value in records.items():
                a.write(key, value)
            await until(lambda: b.sees("a", records))

    @pytest.mark.trio
    async def test_the_last_value_wins(self, tmp_path: Path) -> None:
        """Of many values of a key the last one stays; a deleted key is gone."""
        async with Stage(self, tmp_path).open() as stage:
            a, b = await stage.start("a", "b")
            a.write("gone", b"1")
            await until(lambda: b.sees("a", {"gone": b"1"}))
            for number in range(200):
                a.write("x", b"%d" % number)
                a.write("gone", None if number % 2 else b"%d" % number)
            await until(lambda: b.sees("a", {"x": b"199"}))

    @pytest.mark.trio
    async def test_limits_are_kept(self, tmp_path: Path) -> None:
        """What breaks a limit is refused; what meets it is carried."""
        async with Stage(self, tmp_path).open() as stage:
            a, b = await stage.start("a", "b")
            longest = "k" * MAX_RECORD_KEY
            for key, value in (
                (longest + "k", b""),
                ("\N{GREEK SMALL LETTER BETA}" * (MAX_RECORD_KEY // 2 + 1), b""),
                ("x", bytes(MAX_RECORD_VALUE + 1)),
            ):
                with pytest.raises(LocalProtocolError):
                    a.write(key, value)
            a.write(longest, bytes(MAX_RECORD_VALUE))
            await until(lambda: b.sees("a", {longest: bytes(MAX_RECORD_VALUE)}))

    @pytest.mark.trio
    async def test_there_are_not_too_many_records(self, tmp_path: Path) -> None:
        """One record too many is refused, and there is room again after a deletion."""
        a = Stage(self, tmp_path).make("a")
        for number in range(MAX_RECORDS):
            a.write(str(number), b"")
        with pytest.raises(LocalProtocolError):
            a.write("more", b"")
        a.write("0", None)
        a.write("more", b"")

    @pytest.mark.trio
    async def test_one_may_write_before_it_runs(self, tmp_path: Path) -> None:
        """What was written before `run` is told after it."""
        async with Stage(self, tmp_path).open() as stage:
            a = stage.make("a")
            a.write("early", b"1")
            await stage.run(a)
            (b,) = await stage.start("b")
            await until(lambda: b.sees("a", {"early": b"1"}))

    @pytest.mark.trio
    async def test_records_of_a_dead_peer_are_kept(self, tmp_path: Path) -> None:
        """A crash is found, and is no goodbye."""
        async with Stage(self, tmp_path).open() as stage:
            a, b, c = await stage.start("a", "b", "c")
            c.write("x", b"1")
            await until(lambda: a.sees("c", {"x": b"1"}) and b.sees("c", {"x": b"1"}))
            await c.crash()
            await until(lambda: not a.alive("c") and not b.alive("c"))
            for one in (a, b):
                assert not one.peers["c"].left
                assert one.records["c"] == {"x": b"1"}

    @pytest.mark.trio
    async def test_records_of_a_peer_that_left_are_deleted(self, tmp_path: Path) -> None:
        """A goodbye is known, and what the peer said is gone."""
        async with Stage(self, tmp_path).open() as stage:
            a, b, c = await stage.start("a", "b", "c")
            c.write("x", b"1")
            await until(lambda: a.sees("c", {"x": b"1"}) and b.sees("c", {"x": b"1"}))
            assert c.transport is not None
            await c.transport.leave()
            await c.crash()
            await until(lambda: a.has_left("c") and b.has_left("c"))

    @pytest.mark.trio
    async def test_what_was_not_written_again_vanishes(self, tmp_path: Path) -> None:
        """After a restart under its name only the new records of a balancer count."""
        async with Stage(self, tmp_path).open() as stage:
            a, b = await stage.start("a", "b")
            b.write("old", b"1")
            b.write("both", b"1")
            await until(lambda: a.sees("b", {"old": b"1", "both": b"1"}))
            await b.crash()
            again = stage.make("b")
            again.write("both", b"2")
            await stage.run(again)
            await until(lambda: a.sees("b", {"both": b"2"}) and again.alive("a"))

    @pytest.mark.trio
    async def test_one_that_left_may_return(self, tmp_path: Path) -> None:
        """A goodbye is not for ever."""
        async with Stage(self, tmp_path).open() as stage:
            a, b = await stage.start("a", "b")
            assert b.transport is not None
            await b.transport.leave()
            await b.crash()
            await until(lambda: a.has_left("b"))
            again = stage.make("b")
            again.write("x", b"1")
            await stage.run(again)
            await until(lambda: a.sees("b", {"x": b"1"}) and not a.peers["b"].left)

    @pytest.mark.trio
    async def test_one_that_comes_late_learns_all(self, tmp_path: Path) -> None:
        """Records that were written long before reach who joins."""
        async with Stage(self, tmp_path).open() as stage:
            a, b = await stage.start("a", "b")
            a.write("x", b"a")
            b.write("x", b"b")
            await until(lambda: a.sees("b", {"x": b"b"}) and b.sees("a", {"x": b"a"}))
            (c,) = await stage.start("c")
            await until(lambda: c.sees("a", {"x": b"a"}) and c.sees("b", {"x": b"b"}))

    @pytest.mark.trio
    async def test_all_agree_after_a_cut(self, tmp_path: Path) -> None:
        """Writes on both sides of a cut, and deletions, are known to all after it."""
        async with Stage(self, tmp_path).open() as stage:
            a, b, c = await stage.start("a", "b", "c")
            c.write("gone", b"1")
            a.write("gone", b"1")
            await until(lambda: a.sees("c", {"gone": b"1"}) and c.sees("a", {"gone": b"1"}))
            await self.cut("c")
            await until(lambda: not a.alive("c") and not b.alive("c"))
            assert not a.peers["c"].left
            assert a.records["c"] == {"gone": b"1"}
            for one in (a, c):
                one.write("gone", None)
                one.write("new", one.name.encode())
            await until(lambda: b.sees("a", {"new": b"a"}))
            await self.heal("c")
            await until(lambda: all(one.sees("c", {"new": b"c"}) for one in (a, b)))
            await until(lambda: c.sees("a", {"new": b"a"}) and c.alive("b"))

    @pytest.mark.trio
    async def test_one_alone_works(self, tmp_path: Path) -> None:
        """Nothing raises while nobody can be reached, and `leave` still ends."""
        async with Stage(self, tmp_path).open() as stage:
            await self.cut("a")
            a = await stage.run(stage.make("a"))
            a.write("x", b"1")
            assert a.transport is not None
            a.transport.notes()
            a.transport.metrics()
            await a.transport.leave()
            await a.crash()

    @pytest.mark.trio
    async def test_there_are_keys(self, tmp_path: Path) -> None:
        """All balancers have the same keys for other streams."""
        async with Stage(self, tmp_path).open() as stage:
            a, b = await stage.start("a", "b")
            assert a.transport is not None
            assert b.transport is not None
            assert a.transport.keys == b.transport.keys


def _places(count: int) -> list[Place]:
    """Return loopback addresses with ports that are free for UDP and TCP now."""
    places: list[Place] = []
    with contextlib.ExitStack() as stack:
        while len(places) < count:
            with socket.socket() as stream:
                stream.bind(("127.0.0.1", 0))
                port = stream.getsockname()[1]
                datagrams = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                with contextlib.suppress(OSError):
                    datagrams.bind(("127.0.0.1", port))
                    places.append((ip_address("127.0.0.1"), port))
    return places
