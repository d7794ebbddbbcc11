# SPDX-License-Identifier: Apache-2.0
"""Connection sharing over real sockets and real worker threads, on loopback addresses."""

import collections
import socket
import struct
from ipaddress import ip_address

import pytest
import trio

from galelb.errors import GaleError
from galelb.group.share_sockets import listen
from galelb.group.sharing import FlowSharing
from galelb.sockets import dial, prepared
from galelb.testing.fake_flows import FakeFlows
from tests.group.sharing_world import RING, names


@pytest.fixture
def port():
    """Return a port that is free on all of the addresses."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Flows(FakeFlows):
    """Says when flows have arrived."""

    def __init__(self, flows):
        super().__init__(flows, batch=1000)
        self.arrived = collections.defaultdict(trio.Event)

    def accept(self, batch):
        accepted = super().accept(batch)
        trio.from_thread.run_sync(self._tell)
        return accepted

    def _tell(self):
        for name in self.flows:
            self.arrived[name].set()


class Balancer:
    def __init__(self, address, port, flows=(), name=None):
        self.place = ip_address(address), port
        self.name = name or address
        self.flows = Flows(flows)
        self.changed = trio.Event()
        self.sharing = FlowSharing(
            name=self.name,
            address=self.place[0],
            port=port,
            keys=lambda: RING,
            shares=lambda: {"nat": self.flows},
            on_change=lambda: self.changed.set(),
        )

    def meet(self, *others):
        self.sharing.peers({other.name: other.place for other in others})


@pytest.mark.parametrize("addresses", [("127.0.0.1", "127.0.0.2"), ("::1", "::1")])
async def test_flows_and_changes_travel(nursery, port, addresses):
    a = Balancer(addresses[0], port, names("a", 3000), name="lb1")
    b = Balancer(addresses[1], port + (addresses[0] == addresses[1]), name="lb2")
    with trio.fail_after(60):
        for one, other in ((a, b), (b, a)):
            one.meet(other)
            await nursery.start(one.sharing.run)
        while not b.sharing.complete:
            await b.changed.wait()
            b.changed = trio.Event()
        assert 3000 == len(b.flows.flows)

        a.flows.touch("new")
        await b.flows.arrived["new"].wait()


async def test_a_port_in_use_is_an_error_that_says_what_to_change(port):
    first, second = Balancer("127.0.0.1", port), Balancer("127.0.0.1", port)
    async with trio.open_nursery() as nursery:
        await nursery.start(first.sharing.run)
        with pytest.raises(GaleError, match=rf"TCP port {port} on 127.0.0.1.*sharing_port"):
            await second.sharing.run()
        nursery.cancel_scope.cancel()


async def test_a_stranger_that_resets_at_once_ends_nothing(nursery, port):
    """Its address cannot be asked for any more when it is accepted."""
    a, b = Balancer("127.0.0.1", port, ["one"]), Balancer("127.0.0.2", port)
    b.meet(a)
    listener = listen(*a.place)
    for _ in range(5):
        with socket.create_connection((str(a.place[0]), port)) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    for _ in range(5):
        stream = await listener.accept()
        await a.sharing._serve(stream)
    await listener.aclose()

    with trio.fail_after(60):
        await nursery.start(a.sharing.run)
        await nursery.start(b.sharing.run)
        while not b.sharing.complete:
            await b.changed.wait()
            b.changed = trio.Event()

    assert {"one": 1} == b.flows.flows


async def test_addresses_that_are_nowhere_can_be_listened_on(port):
    for address in ("192.0.2.77", "2001:db8::77"):
        await listen(ip_address(address), port).aclose()


async def test_streams_notice_dead_peers_and_come_from_ones_own_address(port):
    async with listen(ip_address("127.0.0.1"), port) as listener:
        ours = await dial(ip_address("127.0.0.9"), ip_address("127.0.0.1"), port)
        theirs = prepared(await listener.accept())
        async with ours, theirs:
            assert "127.0.0.9" == theirs.socket.getpeername()[0]
            for stream in (ours, theirs):
                assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert 5000 == stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
