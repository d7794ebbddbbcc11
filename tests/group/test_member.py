# SPDX-License-Identifier: Apache-2.0
"""Balancers that hear nodes and each other: what each of them makes of it, in virtual time."""

from ipaddress import ip_address

import attrs
import pytest
import trio
from structlog.testing import capture_logs

from galelb.group.quorum import Standing
from galelb.hooks import hookimpl
from galelb.model import HealthStatus, Node, NodeState
from tests.group.member_world import NAMES, TIMEOUT_S, Balancer, config, group

A, B = "10.9.0.1", "10.9.0.2"
DOWN = HealthStatus.NOT_SERVING


def routable(balancers):
    return [one.routable() for one in balancers]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
async def test_all_come_to_name_the_same_nodes(nursery, autojump_clock, size):
    _, balancers = await group(nursery, *[config(size)] * size)
    for balancer in balancers:
        balancer.report(A)
    balancers[-1].report(B)
    await trio.sleep(0.5)

    assert [Standing.QUORATE] * size == [one.member.state.standing for one in balancers]
    assert [{A, B}] * size == routable(balancers)
    assert size == 1 or not balancers[0].health.heard(ip_address(B))


@pytest.mark.parametrize(
    ("missing", "named"), [((), True), ((0,), True), ((0, 1), False), ((0, 1, 2), False)]
)
async def test_the_majority_decides_over_what_a_balancer_sees(
    nursery, autojump_clock, missing, named
):
    _, balancers = await group(nursery, *[config(3)] * 3)
    for number, balancer in enumerate(balancers):
        balancer.report(A)
        if number in missing:
            balancer.report(A, DOWN)
    await trio.sleep(0.5)

    assert [{A} if named else set()] * 3 == routable(balancers)


async def test_a_tie_of_two_is_routable(nursery, autojump_clock):
    _, balancers = await group(nursery, *[config(2)] * 2)
    for balancer in balancers:
        balancer.report(A)
    balancers[0].report(A, DOWN)
    await trio.sleep(0.5)

    assert [{A}] * 2 == routable(balancers)


async def test_a_decision_holds_everywhere_also_for_nodes_that_join_later(nursery, autojump_clock):
    _, balancers = await group(nursery, *[config(3)] * 3)
    balancers[0].report(A)
    await trio.sleep(0.5)
    balancers[0].decide(A, draining=True, weight=7)
    balancers[0].report(B)
    balancers[0].decide(B, draining=True)
    await trio.sleep(0.5)

    records = [one.node(A) for one in balancers]
    assert [(True, 7)] * 3 == [(one.operator_draining, one.operator_weight) for one in records]

    balancers[1].desk.health.remove(ip_address(B), trio.current_time())
    balancers[1].desk.settle()
    assert balancers[1].node(B) is None
    balancers[1].report(B)
    await trio.sleep(0.5)
    assert balancers[1].node(B).operator_draining


async def test_a_decision_on_a_node_that_nobody_knows_waits_for_it(nursery, autojump_clock):
    _, balancers = await group(nursery, *[config(3)] * 3)
    balancers[0].member.decide(ip_address(B), draining=True, weight=None)
    await trio.sleep(0.5)
    balancers[2].report(B)

    assert balancers[2].node(B).operator_draining


async def test_a_saved_decision_is_applied_to_an_adopted_node_at_once(nursery, autojump_clock):
    _, balancers = await group(nursery, *[config(2)] * 2)
    first = balancers[0]
    first.report(A)
    first.decide(A, draining=True)
    saved = first.member.state.decisions.dump()
    later = await again(nursery, first, decisions=saved)

    assert later.node(A).operator_draining


async def test_different_configurations_are_told_on_both_sides_without_values(
    nursery, autojump_clock
):
    plain = config(3, enforce=True)
    other = config(3, enforce=True, timeout_s=7777)
    with capture_logs() as logs:
        _, balancers = await group(nursery, plain, plain, other)
        balancers[2].report(A)
        await trio.sleep(0.5)

    told = [one for one in logs if one["event"] == "peer_has_another_configuration"]
    assert len(told) == 4  # 1 and 2 of 3, 3 of 1 and 2, each once
    assert {"node_health.checks_timeout"} == {one["keys"] for one in told}
    assert all(one["ignored"] for one in told)
    assert "7777" not in str(told)
    assert [set(), set()] == routable(balancers[:2])  # who is ignored brings no nodes
    assert any(f"peer {NAMES[2]} has another" in note for note in balancers[0].member.notes())
    assert not any(note for note in balancers[0].member.notes() if "7777" in note)

    balancers[2].member.use(plain)
    await trio.sleep(0.5)
    assert [{A}, {A}] == routable(balancers[:2])
    assert balancers[0].member.notes() == []


async def test_a_reload_that_ends_enforcement_is_heeded(nursery, autojump_clock):
    plain, other = config(3, enforce=True), config(3, enforce=True, timeout_s=9)
    _, balancers = await group(nursery, plain, plain, other)
    balancers[0].member.use(config(3))

    assert {one.peer.name for one in balancers[0].member.state.counted()} == set(NAMES[1:3])


async def test_another_checks_timeout_holds_after_a_reload(nursery, autojump_clock):
    network, balancers = await group(nursery, *[config(3)] * 3)
    balancers[0].report(A)
    balancers[0].report(B)
    await trio.sleep(0.5)
    balancers[0].member.use(config(3, timeout_s=1))
    network.cut(NAMES[0])
    await trio.sleep(0.7)
    balancers[0].report(A, DOWN)
    await trio.sleep(0.9)
    assert {A, B} == balancers[0].routable()

    await trio.sleep(0.2)
    assert {B} == balancers[0].routable()


async def again(nursery, balancer, **options):
    """Kill a balancer and start another one in its place."""
    balancer.stop()
    saved = balancer.health.snapshot(trio.current_time())
    await trio.testing.wait_all_tasks_blocked()
    network = balancer.transport.options
    later = Balancer(network, balancer.name, balancer.config, health=saved, **options)
    await nursery.start(later.run)
    return later


@pytest.mark.parametrize("size", [2, 3])
async def test_a_restart_keeps_what_the_group_agreed_until_it_speaks(nursery, autojump_clock, size):
    network, balancers = await group(nursery, *[config(size)] * size)
    balancers[-1].report(A)
    await trio.sleep(0.5)
    network.cut(NAMES[0])
    later = await again(nursery, balancers[0])
    await trio.sleep(1)
    assert {A} == later.routable()

    later.report(A, DOWN)  # what it hears itself is newer
    await trio.sleep(0.5)
    assert set() == later.routable()


async def test_a_restarted_balancer_that_meets_nobody_has_its_own_view_in_the_end(
    nursery, autojump_clock
):
    network, balancers = await group(nursery, *[config(2)] * 2)
    balancers[-1].report(A)
    await trio.sleep(0.5)
    network.cut(NAMES[0])
    later = await again(nursery, balancers[0])
    await trio.sleep(2 * TIMEOUT_S + 6)

    assert set() == later.routable()


async def test_cut_off_nothing_is_added_until_the_cut_is_healed(nursery, autojump_clock):
    network, balancers = await group(nursery, *[config(3)] * 3)
    for balancer in balancers:
        balancer.report(A)
    await trio.sleep(0.5)
    network.cut(NAMES[0])
    await trio.sleep(1)
    balancers[0].report(B)
    balancers[1].report(B)
    await trio.sleep(1)

    assert [{A}, {A, B}, {A, B}] == routable(balancers)
    assert [
        "cut off from the group: 1 of 3 balancers. Addresses are given up, no node is added"
    ] == (balancers[0].member.notes())

    network.heal(NAMES[0])
    await trio.sleep(1)
    assert [{A, B}] * 3 == routable(balancers)


async def test_a_failure_in_a_cut_that_heals_keeps_nobody_busy(nursery, autojump_clock):
    network, balancers = await group(nursery, *[config(3)] * 3)
    balancers[0].report(A)
    network.cut(NAMES[0])
    await trio.sleep(1)
    balancers[0].report(A, DOWN)
    await trio.sleep(0.5)
    network.heal(NAMES[0])
    await trio.sleep(2 * TIMEOUT_S)
    before = balancers[0].concluded
    await trio.sleep(TIMEOUT_S)

    assert balancers[0].concluded - before <= 2


async def test_a_node_that_nobody_hears_any_more_is_forgotten(nursery, autojump_clock):
    _, balancers = await group(nursery, *[config(3)] * 3)
    balancers[2].report(A, name="web")
    await trio.sleep(0.5)
    assert [Node(address=ip_address(A), name="web")] == balancers[0].joined

    balancers[2].health.remove(ip_address(A), trio.current_time())
    balancers[2].desk.settle()
    await trio.sleep(1)
    assert set() == balancers[0].routable()
    assert balancers[0].node(A).state is NodeState.DOWN

    await trio.sleep(310)
    assert balancers[0].node(A) is None
    assert [ip_address(A)] == [node.address for node in balancers[0].left]


async def test_a_thousand_news_are_few_conclusions(nursery, autojump_clock):
    _, balancers = await group(nursery, *[config(2)] * 2)
    before = [one.concluded for one in balancers]
    for number in range(1000):
        balancers[0].report(f"10.9.{number // 250}.{number % 250 + 1}")
        await trio.sleep(0.0001)
    await trio.sleep(0.5)

    assert len(balancers[1].routable()) == 1000
    assert all(one.concluded - old <= 20 for one, old in zip(balancers, before, strict=True))


class Distrust:
    """A plugin that takes no peer's word for a node being down."""

    def __init__(self):
        self.asked, self.peers = [], []

    @hookimpl
    def galelb_merge_record(self, ours, theirs):
        self.asked.append((ours.node.address, ours.state, theirs.node.name, theirs.state))
        return attrs.evolve(ours, state=NodeState.ROUTABLE)

    @hookimpl
    def galelb_peer_changed(self, old, new):
        self.peers.append((new.name, old is None, new.alive))


async def with_plugin(nursery, plugin):
    network, balancers = await group(nursery, config(3), config(3))
    distrustful = Balancer(network, NAMES[2], config(3), plugin)
    await nursery.start(distrustful.run)
    await trio.sleep(0.5)
    return [*balancers, distrustful]


async def test_plugins_may_judge_what_a_peer_says_of_a_node(nursery, autojump_clock):
    plugin = Distrust()
    balancers = await with_plugin(nursery, plugin)
    for balancer in balancers:
        balancer.report(A, name="web")
    await trio.sleep(0.5)
    plugin.asked.clear()
    for balancer in balancers[:2]:
        balancer.report(A, DOWN)
    await trio.sleep(0.5)

    asked = (ip_address(A), NodeState.ROUTABLE, "web", NodeState.DOWN)
    assert [asked, asked] == plugin.asked
    assert [set(), set(), {A}] == routable(balancers)


async def test_plugins_are_told_of_peers(nursery, autojump_clock):
    plugin = Distrust()
    balancers = await with_plugin(nursery, plugin)
    balancers[0].stop()
    await trio.sleep(1)

    first = [(NAMES[0], True, True), (NAMES[1], True, True)]
    assert sorted(plugin.peers[:2]) == first
    assert [(NAMES[0], False, False)] == plugin.peers[2:]


async def test_records_that_cannot_be_read_are_told_once(nursery, autojump_clock):
    _, balancers = await group(nursery, *[config(2)] * 2)
    balancers[0].report(A)
    with capture_logs() as logs:
        for value in (b"?", b"[]"):
            balancers[1].transport.write(f"node/{A}", value)
            await trio.sleep(0.2)

    assert 1 == [one["event"] for one in logs].count("record_not_taken")
    assert balancers[0].member.state.peers[NAMES[1]].bad_records == 2
    assert {A} == balancers[0].routable()
