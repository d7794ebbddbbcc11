# SPDX-License-Identifier: Apache-2.0
"""The source in virtual time, on nodes that are fakes: when it looks, and what it says."""

import contextlib
from ipaddress import ip_address

import galelb_plugins.health_probe
import pytest
import trio
import trio.testing
from galelb_plugins.health_probe import plugin
from galelb_plugins.health_probe.options import HealthProbeOptions, Probe
from galelb_plugins.health_probe.plugin import HealthProbe

from galelb.errors import GaleError
from galelb.model import HealthStatus, NodeState
from galelb.sources import Reach

A, B = "10.0.0.1", "10.0.0.2"


class Net:
    """Nodes that accept connections, refuse them or say nothing; notes when they are asked."""

    def __init__(self):
        self.refusing = set()
        self.silent = set()
        self.asked = []
        self.open = 0
        self.most = 0

    @contextlib.asynccontextmanager
    async def connect(self, address, port):
        self.asked.append((trio.current_time(), str(address), port))
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await trio.sleep(0.01)
            if str(address) in self.silent:
                await trio.sleep_forever()
            if str(address) in self.refusing:
                raise ConnectionRefusedError(111, "Connection refused")
            yield trio.testing.memory_stream_pair()[0]
        finally:
            self.open -= 1


@pytest.fixture
def net(monkeypatch):
    net = Net()
    monkeypatch.setattr(plugin, "connect", net.connect)
    return net


@pytest.fixture
def core(make_core, make_service):
    return make_core(make_service())


def test_is_registered_by_its_hook():
    assert [HealthProbe] == galelb_plugins.health_probe.galelb_register_health_sources()


async def test_a_configured_node_is_routable_by_rise_good_checks(
    core, net, autojump_clock, nursery
):
    core.configure(A)
    await nursery.start(core.source({"rise": 3, "fall": 1}).run)

    states = []
    while len(net.asked) < 4:
        states.append((len(net.asked), core.state(A)[0]))
        await trio.sleep(0.1)

    assert {(0, "probation"), (1, "probation"), (2, "probation"), (3, "routable")} <= set(states)


async def test_falls_after_fall_bad_checks_and_returns(core, net, autojump_clock, nursery):
    core.configure(A)
    await nursery.start(core.source({"rise": 2, "fall": 3}).run)
    await trio.sleep(5)
    net.refusing.add(A)
    before = len(net.asked)
    while core.state(A)[0] is NodeState.ROUTABLE:
        await trio.sleep(0.05)
    bad = len(net.asked) - before
    reason = core.state(A)[1]
    net.refusing.clear()
    while core.state(A)[0] is not NodeState.ROUTABLE:
        await trio.sleep(0.05)

    assert 3 == bad
    assert "health_probe: web: tcp 10.0.0.1:80: connection refused" == reason
    assert 5 == len(net.asked) - before


async def test_silence_is_a_bad_check(core, net, autojump_clock, nursery):
    core.configure(A)
    net.silent.add(A)
    await nursery.start(core.source({"timeout": "300ms", "fall": 1}).run)
    await trio.sleep(2)

    assert "health_probe: web: tcp 10.0.0.1:80: no answer within 0.3 s" == core.state(A)[1]


async def test_nodes_are_not_all_asked_at_the_same_moment(core, net, autojump_clock, nursery):
    core.configure(*(f"10.0.1.{number}" for number in range(100)))
    await nursery.start(core.source().run)
    await trio.sleep(1)

    moments = [at for at, *_ in net.asked]
    assert 100 == len(moments)
    assert max(moments) - min(moments) > 0.5


async def test_each_node_is_asked_once_per_interval(core, net, autojump_clock, nursery):
    core.configure(A, B)
    await nursery.start(core.source({"interval": "2s"}).run)
    await trio.sleep(20)

    assert 20 == len(net.asked)


async def test_checks_at_a_time_are_bounded(core, net, autojump_clock, nursery):
    addresses = [f"10.0.1.{number}" for number in range(50)]
    core.configure(*addresses)
    net.silent.update(addresses)
    await nursery.start(core.source(concurrency=4).run)
    await trio.sleep(30)

    assert 4 == net.most
    assert set(addresses) == {address for _, address, _ in net.asked}


async def test_nodes_that_join_later_are_checked(core, net, autojump_clock, nursery):
    await nursery.start(core.source().run)
    await trio.sleep(5)
    core.configure(A)
    await trio.sleep(3)

    assert NodeState.ROUTABLE is core.state(A)[0]


async def test_nodes_that_leave_are_checked_no_more(core, net, autojump_clock, nursery):
    core.configure(A, B)
    await nursery.start(core.source().run)
    await trio.sleep(5)
    core.forget(A)
    await trio.sleep(0.1)
    net.asked.clear()
    await trio.sleep(5)

    assert {B} == {address for _, address, _ in net.asked}


async def test_a_node_that_was_forgotten_and_came_back_is_told_of_again(
    core, net, autojump_clock, nursery
):
    """Both within one turn, so that the source sees no difference."""
    core.configure(A)
    await nursery.start(core.source().run)
    await trio.sleep(5)
    core.forget(A)
    core.configure(A)
    waiting = core.state(A)[0]
    await trio.sleep(7)

    assert [NodeState.PROBATION, NodeState.ROUTABLE] == [waiting, core.state(A)[0]]


async def test_findings_are_repeated_rarely(core, net, autojump_clock, nursery):
    core.configure(A)
    await nursery.start(core.source({"interval": "100ms"}).run)
    await trio.sleep(60)

    assert len(core.reports) <= 13


async def test_a_node_without_anything_to_check_is_let_go(
    make_core, make_service, net, autojump_clock, nursery
):
    core = make_core(make_service(), reach=Reach.NEVER)
    core.configure(A)
    await nursery.start(core.source().run)
    await trio.sleep(1)

    assert (NodeState.ROUTABLE, "configured") == core.state(A)
    assert [(ip_address(A), "nothing to check")] == core.gone


async def test_a_new_service_is_checked_too(core, make_service, net, autojump_clock, nursery):
    core.configure(A)
    await nursery.start(core.source().run)
    await trio.sleep(5)
    core.services.append(make_service("shop", 81))
    core.context.changed.notify()
    await trio.sleep(2)

    assert {80, 81} == {port for _, _, port in net.asked}
    assert NodeState.ROUTABLE is core.state(A)[0]


async def test_a_reload_keeps_what_was_found(core, net, autojump_clock, nursery):
    """A node that is routable stays so while the new probe has not looked yet."""
    core.configure(A)
    source = core.source()
    await nursery.start(source.run)
    await trio.sleep(5)
    states = set()
    source.reload(HealthProbeOptions(probes=(Probe(port=8080),)), None)
    for _ in range(50):
        await trio.sleep(0.1)
        states.add(core.state(A)[0])

    assert {NodeState.ROUTABLE} == states
    assert 8080 == net.asked[-1][2]


async def test_too_many_checks_are_bounded(core, net, autojump_clock, nursery):
    core.configure(*(f"10.0.1.{number}" for number in range(10)))
    await nursery.start(core.source(max_checks=4).run)
    await trio.sleep(10)

    assert 4 == len({address for _, address, _ in net.asked})
    assert 10 == sum(r.state is NodeState.ROUTABLE for r in core.health.records())


async def test_a_vip_that_cannot_be_reached_says_why(
    make_core, make_service, net, autojump_clock, nursery
):
    core = make_core(make_service(), reach=Reach.VIP, way=no_way)
    core.configure(A)
    await nursery.start(core.source({"fall": 1}).run)
    await trio.sleep(3)

    assert "health_probe: web: tcp VIP 192.0.2.10:80: not resolved" == core.state(A)[1]


def no_way(service, node):
    raise GaleError("not resolved")


async def test_what_is_checked_less_well_is_noted(
    make_core, make_service, net, autojump_clock, nursery
):
    core = make_core(make_service(), reach=Reach.UNSEEN)
    core.configure(A)
    source = core.source()
    await nursery.start(source.run)
    await trio.sleep(3)

    (note,) = source.notes()
    assert note.startswith("health_probe: service web: nodes are checked at their own addresses")
    assert HealthStatus.SERVING is core.reports[-1].status


async def test_a_probe_for_no_service_is_noted(core):
    source = core.source({"services": ("web", "wbe")})

    assert ["health_probe: a probe is for wbe, which is no service"] == source.notes()
