# SPDX-License-Identifier: Apache-2.0
"""Balancers that share flows over a network in memory, in virtual time."""

from __future__ import annotations

import errno
from ipaddress import ip_address
from types import SimpleNamespace

import trio
from trio.testing import memory_stream_pair

from galelb.group import sharing
from galelb.group.keys import KeyRing
from galelb.group.sharing import FlowSharing
from galelb.testing.fake_flows import FakeFlows

RING = KeyRing({1: bytes(32)}, 1)
FOREIGN = KeyRing({1: bytes([1]) * 32}, 1)
PORT = 4000


class World:
    """The network; `delays` says what each piece of bytes from a place (address) takes."""

    def __init__(self, monkeypatch):
        self.listeners = {}
        self.streams = []
        self.captured = []
        self.delays = {}
        self.cut = set()
        monkeypatch.setattr(sharing, "dial", self.dial)
        monkeypatch.setattr(sharing, "listen", self.listen)
        monkeypatch.setattr(sharing, "prepared", lambda stream: stream)
        # A worker thread would let the clock run on without it.
        monkeypatch.setattr(trio.to_thread, "run_sync", in_this_thread)

    def listen(self, address, port):
        return Listener(self, (address, port))

    async def dial(self, own, address, port):
        await trio.lowlevel.checkpoint()
        listener = self.listeners.get((address, port))
        if {own, address} & self.cut:
            raise OSError(errno.EHOSTUNREACH, "no route")
        if listener is None:
            raise ConnectionRefusedError
        ours, theirs = memory_stream_pair()
        caller, called = Wire(self, ours, own, address), Wire(self, theirs, address, own)
        self.streams += [caller, called]
        listener.send_nowait(called)
        return caller

    async def break_all(self):
        """Break all streams there are."""
        for wire in self.streams:
            await trio.aclose_forcefully(wire.inner)
        self.streams.clear()


class Listener:
    def __init__(self, world, place):
        self.world, self.place = world, place

    async def __aenter__(self):
        self.world.listeners[self.place], self.queue = trio.open_memory_channel(100)
        return self

    async def __aexit__(self, *error):
        del self.world.listeners[self.place]

    async def accept(self):
        return await self.queue.receive()


class Wire(trio.abc.Stream):
    """One end of a stream between two addresses."""

    def __init__(self, world, inner, own, other):
        self.world, self.inner, self.own = world, inner, own
        self.socket = SimpleNamespace(getpeername=lambda: (str(other), 1))

    async def send_all(self, data):
        self.world.captured.append((self.own, bytes(data)))
        await trio.sleep(self.world.delays.get(self.own, 0))
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self):
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes=None):
        return await self.inner.receive_some(max_bytes)

    async def aclose(self):
        await self.inner.aclose()


class Balancer:
    """One balancer with flows of its own."""

    def __init__(self, number, names=(), *, ring=RING):
        self.name = f"lb{number}"
        self.place = ip_address(f"10.0.0.{number}"), PORT
        self.flows = FakeFlows(names)
        self.shares = {"nat": self.flows}
        self.changes = 0
        self.ring = ring
        self.start_anew()

    def start_anew(self):
        """Be another process from now on, over the same flows."""
        self.sharing = FlowSharing(
            name=self.name,
            address=self.place[0],
            port=PORT,
            keys=lambda: self.ring,
            shares=lambda: self.shares,
            on_change=self._changed,
        )

    def meet(self, *others):
        self.sharing.peers({other.name: other.place for other in others})

    def metric(self, name):
        return {
            tuple(one.labels.values()): one.value
            for one in self.sharing.metrics()
            if one.name == name
        }

    def _changed(self):
        self.changes += 1


async def in_this_thread(function, *args):
    await trio.lowlevel.checkpoint()
    return function(*args)


def names(prefix, count):
    return [f"{prefix}{number}" for number in range(count)]
