# SPDX-License-Identifier: Apache-2.0
import ipaddress

import pytest
import trio
from structlog.testing import capture_logs

from galelb.control.nodes import NodeDesk
from galelb.errors import GaleError
from galelb.health import HealthSettings, NodeHealth
from galelb.hooks import hookimpl
from galelb.model import HealthReport, HealthStatus, Node, NodeState
from galelb.plugins import Plugins

A = ipaddress.ip_address("10.1.0.11")
B = ipaddress.ip_address("10.1.0.12")


def report(status=HealthStatus.SERVING, **changes):
    return HealthReport(**{"source": "test", "address": A, "status": status} | changes)


class Told:
    def __init__(self, *plugins, checks=1):
        health = NodeHealth(
            HealthSettings(
                checks_before_routing=checks,
                checks_timeout=5,
                black_list_after_fails=5,
                black_list_expiry=300,
            )
        )
        self.joined = []
        self.left = []
        self.changes = 0
        self.desk = NodeDesk(
            health,
            Plugins.discover(load_entry_points=False, extra=plugins),
            on_change=self._changed,
            on_join=self.joined.append,
            on_leave=self.left.append,
        )

    def _changed(self):
        self.changes += 1


async def test_a_reporting_node_joins_and_everybody_is_told():
    told = Told()

    record = told.desk.report(report(name="n1"))

    assert record.state is NodeState.ROUTABLE
    assert [node.address for node in told.joined] == [A]
    assert told.changes == 1


async def test_a_report_that_changes_nothing_wakes_nobody():
    told = Told()
    told.desk.report(report())
    before = told.changes

    told.desk.neighbour(A, None)

    assert before == told.changes


async def test_silence_is_noticed_when_it_is_due(autojump_clock, nursery):
    told = Told()
    await nursery.start(told.desk.run)
    told.desk.report(report())

    await trio.sleep(4.9)
    assert told.desk.health.get(A).state is NodeState.ROUTABLE
    await trio.sleep(0.2)

    assert told.desk.health.get(A).state is NodeState.DOWN


async def test_a_lost_node_goes_down_at_once():
    told = Told()
    told.desk.report(report())

    told.desk.lost("test", A, "its stream closed")

    assert told.desk.health.get(A).state is NodeState.DOWN
    assert told.desk.health.get(A).reason == "its stream closed"


async def test_a_plugin_may_refuse_a_node():
    class Guest:
        name = "guest"

        @hookimpl
        def galelb_admit_node(self, report):
            return report.name == "invited"

    told = Told(Guest())

    with pytest.raises(GaleError, match="not admitted"):
        told.desk.report(report())
    assert told.joined == []
    assert told.desk.report(report(name="invited")).node.address == A


async def test_a_plugin_may_judge_a_node_unfit():
    class Judge:
        name = "judge"

        @hookimpl
        def galelb_judge_node(self, record, report):
            return False if report.message == "tired" else None

    told = Told(Judge())
    told.desk.report(report())

    assert told.desk.report(report(message="tired")).state is NodeState.DOWN


async def test_plugins_hear_of_changes_and_reports():
    class Listener:
        name = "listener"

        def __init__(self):
            self.heard = []

        @hookimpl
        def galelb_node_changed(self, old, new):
            self.heard.append((old and old.state, new.state))

        @hookimpl
        def galelb_health_reported(self, report):
            self.heard.append(report.status)

    listener = Listener()
    told = Told(listener)
    told.desk.report(report())

    assert [HealthStatus.SERVING, (None, NodeState.ROUTABLE)] == listener.heard


async def test_static_nodes_are_routable_at_once():
    told = Told()
    told.desk.add_static(Node(address=A, weight=3))

    assert told.desk.health.get(A).state is NodeState.ROUTABLE
    assert [node.weight for node in told.joined] == [3]


async def test_a_removed_node_is_told_of():
    told = Told()
    told.desk.add_static(Node(address=A))

    told.desk.health.remove(A, trio.current_time())
    told.desk.settle()

    assert [node.address for node in told.left] == [A]


async def test_a_deadline_that_is_earlier_than_all_others_is_kept(autojump_clock, nursery):
    told = Told()
    await nursery.start(told.desk.run)
    for _ in range(5):
        told.desk.report(report())
        told.desk.report(report(HealthStatus.NOT_SERVING))
    await trio.sleep(6)  # nothing is due before the black list ends
    waits_for = told.desk.health.next_deadline()
    told.desk.report(report(address=B))
    await trio.sleep(5.1)

    assert waits_for == 300
    assert [NodeState.BLACKLISTED, NodeState.DOWN] == [
        one.state for one in told.desk.health.records()
    ]


class TestStalls:
    """The process is stopped for a while; reports that waited are read in any order."""

    @pytest.fixture
    async def told(self, autojump_clock, nursery):
        told = Told(checks=3)
        await nursery.start(told.desk.run)
        for address in (A, B):
            for _ in range(3):
                told.desk.report(report(address=address))
                await trio.sleep(0.1)
        return told

    def states(self, told):
        return [(one.state, one.failures) for one in told.desk.health.records()]

    async def test_no_node_falls_for_our_own_silence(self, told, autojump_clock):
        autojump_clock.jump(60)
        with capture_logs() as logs:
            await trio.sleep(0)  # whoever runs first
            for address in (A, B):
                told.desk.report(report(address=address))
            await trio.sleep(1)

        assert [(NodeState.ROUTABLE, 0)] * 2 == self.states(told)
        assert ["balancer_stalled"] == [entry["event"] for entry in logs]

    async def test_a_report_that_is_read_first_excuses_all(self, told, autojump_clock):
        autojump_clock.jump(60)
        told.desk.report(report())
        await trio.sleep(1)

        assert [(NodeState.ROUTABLE, 0)] * 2 == self.states(told)

    async def test_connections_that_broke_meanwhile_are_no_falls(self, told, autojump_clock):
        autojump_clock.jump(60)
        for address in (A, B):
            told.desk.lost("test", address, "its connection ended")
        await trio.sleep(2)
        told.desk.report(report())
        await trio.sleep(2)

        assert [(NodeState.ROUTABLE, 0)] * 2 == self.states(told)

    async def test_who_stays_silent_leaves_after_the_timeout_and_is_not_blamed(
        self, told, autojump_clock
    ):
        autojump_clock.jump(60)
        await trio.sleep(4.9)
        before = self.states(told)
        await trio.sleep(0.2)

        assert [(NodeState.ROUTABLE, 0)] * 2 == before
        assert [(NodeState.DOWN, 0)] * 2 == self.states(told)

    async def test_who_is_unfit_is_unfit_at_once(self, told, autojump_clock):
        autojump_clock.jump(60)
        told.desk.report(report(HealthStatus.NOT_SERVING))

        assert (NodeState.DOWN, 1) == self.states(told)[0]

    async def test_probation_goes_on(self, told, autojump_clock):
        C = B + 1
        told.desk.report(report(address=C))
        await trio.sleep(0.1)
        told.desk.report(report(address=C))
        autojump_clock.jump(60)
        record = told.desk.report(report(address=C))

        assert NodeState.ROUTABLE == record.state

    async def test_a_wait_that_is_merely_a_little_late_is_no_stall(self, told, autojump_clock):
        await trio.sleep(4)
        autojump_clock.jump(0.8)
        await trio.sleep(0.2)

        assert [(NodeState.DOWN, 1)] * 2 == self.states(told)
