# SPDX-License-Identifier: Apache-2.0
"""Transports on real sockets, each on a loopback address of its own, and what their core heard."""

import contextlib
import os
import random
from functools import partial
from ipaddress import ip_address

import trio
from galelb_plugins.sync_gossip.options import GossipOptions
from galelb_plugins.sync_gossip.plugin import SyncGossip

from galelb.transport import TransportContext

PATIENCE_S = 30.0
QUICK = GossipOptions(probe_interval=0.05)
_NETWORK = (os.getpid() % 250 + 2, random.Random().randrange(1, 250))


class Core:
    """What one transport told its core, in order; `events` has all of it."""

    def __init__(self):
        self.peers, self.records, self.events = {}, {}, []

    def peer_changed(self, peer):
        self.events.append(peer)
        self.peers[peer.name] = peer

    def record_changed(self, name, key, value):
        assert name in self.peers, "a record before its peer"
        self.events.append((name, key, value))
        self.records[name, key] = value
        if value is None:
            del self.records[name, key]

    def alive(self):
        return {name for name, peer in self.peers.items() if peer.alive}

    def of(self, name):
        return {key: value for (one, key), value in self.records.items() if one == name}


def cut(member):
    """Let a plugin's member send and hear nothing."""
    member._send = lambda output: None
    member._take = lambda seal, data, source: None
    member.streams.call = lambda exchange: None
    member.streams._doors.enter = lambda source: None


def heal(member):
    """Undo `cut`."""
    del member._send, member._take
    del member.streams.call, member.streams._doors.enter


class Member:
    """A transport that can be started and stopped; `core` survives a restart of it."""

    def __init__(self, number, *, count, tmp_path, options, port=7946):
        self.name, self.options, self._tmp_path = f"m{number}", options, tmp_path
        net, port = "127.{}.{}".format(*_NETWORK), port
        addresses = [ip_address(f"{net}.{one}") for one in range(1, count + 1)]
        self.address = (addresses[number - 1], port)
        self.peers = tuple((one, port) for one in addresses if one != self.address[0])
        self._scope = None
        self.fresh()

    def fresh(self):
        """Be a new process, which knows nothing."""
        self.core = Core()
        self.transport = SyncGossip(
            self.options,
            TransportContext(
                name=self.name,
                address=self.address[0],
                port=self.address[1],
                peers=self.peers,
                directory=self._tmp_path,
                peer_changed=self.core.peer_changed,
                record_changed=self.core.record_changed,
            ),
        )

    async def start(self, nursery):
        self._scope = await nursery.start(self._run)

    async def _run(self, task_status):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(self.transport.run))
                task_status.started(scope)

    async def kill(self):
        """End without a goodbye; its sockets are closed when this returns."""
        self._scope.cancel()
        while self.transport._member._udp.fileno() != -1:
            await trio.sleep(0.001)

    def cut(self):
        """Send and hear nothing from now on; streams that are open end by themselves."""
        cut(self.member)

    def heal(self):
        """Send and hear again."""
        heal(self.member)

    def knows(self, said):
        """Whether this one was told exactly what the others say, by (name, key)."""
        wanted = {about: value for about, value in said.items() if about[0] != self.name}
        return wanted == self.core.records

    @property
    def member(self):
        return self.transport._member


@contextlib.asynccontextmanager
async def group(count, tmp_path, *, options=QUICK, started=None):
    """Start members m1, m2 ... and stop them at the end; `started` limits how many run at once."""
    members = [
        Member(number, count=count, tmp_path=tmp_path, options=options)
        for number in range(1, count + 1)
    ]
    async with trio.open_nursery() as nursery:
        for one in members[:started]:
            await one.start(nursery)
        yield members, nursery
        nursery.cancel_scope.cancel()


async def until(true):
    """Wait until it is true; fail after long."""
    with trio.fail_after(PATIENCE_S):
        while not true():
            await trio.sleep(0.005)


async def formed(members):
    """Wait until all know all."""
    names = {one.name for one in members}
    await until(lambda: all(one.core.alive() == names - {one.name} for one in members))
