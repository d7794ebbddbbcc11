# SPDX-License-Identifier: Apache-2.0
"""What a group promises whatever the network does; a failing seed is in the test's name."""

import math
import statistics

import pytest
from galelb_plugins.sync_gossip.messages import State
from galelb_plugins.sync_gossip.timing import Settings, timing
from simulation import Group

SEEDS = range(3)
TAKEOVER_S = 1.2


def others(group, name):
    return [one for one in group.names if one != name]


def kill_one(size, seed, loss=0.0):
    """Return the group, who was killed and when; not at the same point of a period in each seed."""
    group = Group(size, seed, loss=loss, wire=size < 50).form()
    group.run(5 + 0.037 * seed)
    victim = group.names[seed % size]
    group.kill(victim)
    return group, victim, group.now


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [3, 10, 50])
def test_nobody_is_falsely_declared_dead_under_loss(size, seed):
    group = Group(size, seed, loss=0.05, duplicates=0.01, drift=1e-3, wire=False).form()

    group.run(600)

    assert [] == group.seen(State.DEAD)
    # Else nothing was refuted, and the test would prove little.
    assert [] != group.seen(State.SUSPECT)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("loss", [0.0, 0.05])
@pytest.mark.parametrize("size", [2, 3, 10, 50])
def test_a_death_is_found_and_known_within_the_bounds(size, loss, seed):
    """SWIM: probed within 2n - 1 periods; known after lambda log n rounds of gossip."""
    times = timing(Settings(), size)
    group, victim, died = kill_one(size, seed, loss)

    found = group.run_until(lambda: group.seen(State.DEAD, victim, died), 300)
    known = group.run_until(lambda: group.agree(group.everybody(**{victim: State.DEAD})), 300)

    assert found <= (2 * size - 1 + 1) * times.probe_s + times.suspicion_most_s
    assert known <= times.retransmits * times.gossip_s + group.delay[1]


@pytest.mark.parametrize("size", [2, 3, 5, 10])
def test_small_groups_find_a_death_in_time_for_a_takeover(size):
    found = []
    for seed in range(20):
        group, victim, _ = kill_one(size, seed)
        dead = group.everybody(**{victim: State.DEAD})
        found.append(group.run_until(lambda group=group, dead=dead: group.agree(dead), 60))

    assert statistics.median(found) <= 1.0
    assert statistics.quantiles(found, n=10)[-1] <= TAKEOVER_S


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("size", "minority", "cut_s", "within"), [(3, 1, 60, 5), (10, 5, 60, 5), (50, 25, 240, 10)]
)
def test_all_agree_within_seconds_after_a_partition(size, minority, cut_s, within, seed):
    group = Group(size, seed, loss=0.02, drift=1e-3, wire=size < 50).form()
    sides = group.names[:minority], group.names[minority:]
    group.cut(*sides)
    group.run(cut_s)
    for side in sides:
        for name in side:
            dead = {one for one, state in group.view(name).items() if state is State.DEAD}
            assert set(group.names) - set(side) == dead

    group.heal()
    healed = group.now

    assert group.run_until(lambda: group.agree(group.everybody()), within) is not None
    # What one side still says of the other's death harms nobody any more.
    group.run(30)
    assert [] == group.seen(State.DEAD, since=healed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cut_between_two_members_is_bridged_by_the_others(seed):
    group = Group(5, seed).form()

    group.cut(["m01"], ["m02"])
    group.run(60)

    assert [] == group.seen(State.SUSPECT)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [3, 10])
@pytest.mark.parametrize("deaf", [True, False], ids=["deaf", "mute"])
def test_a_member_with_half_a_link_falls_alone(size, deaf, seed):
    """What it makes of the others' silence convinces nobody; see Knowledge.hear."""
    group = Group(size, seed, wire=False).form()
    rest = others(group, "m01")
    group.cut(*((rest, ["m01"]) if deaf else (["m01"], rest)), one_way=True)

    group.run(60)

    fallen = {(who, name) for _, who, name in group.seen(State.DEAD) if who != "m01"}
    assert {(who, "m01") for who in rest} == fallen
    group.heal()
    assert group.run_until(lambda: group.agree(group.everybody()), 10) is not None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [3, 10])
@pytest.mark.parametrize("slow_s", [0.1, 0.5, 2.0])
def test_a_slow_member_gets_nobody_else_declared_dead(size, slow_s, seed):
    group = Group(size, seed, wire=False).form()

    group.slow("m01", slow_s)
    group.run(60)

    assert [] == [name for _, _, name in group.seen(State.DEAD) if name != "m01"]
    assert all(0 == group.members[name].swim.health for name in others(group, "m01"))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_hopelessly_slow_member_is_not_believed(seed):
    group = Group(10, seed, wire=False).form()

    group.slow("m01", 4.0)
    group.run(60)

    believed = [one for one in group.seen(State.DEAD) if one[1] != "m01"]
    assert {"m01"} == {name for _, _, name in believed}


def test_without_local_health_a_slow_member_does_harm():
    """The test above can fail: Lifeguard's parts are what makes it pass."""
    bare = Settings(worst_health=0, suspicion_stretch=1.0)
    suspected = {}
    for settings in (Settings(), bare):
        group = Group(10, 1, settings=settings, wire=False).form()
        group.slow("m01", 0.5)
        group.run(60)
        dead = [name for _, _, name in group.seen(State.DEAD) if name != "m01"]
        suspected[settings] = [one for one in group.seen(State.SUSPECT) if one[2] != "m01"]
        assert (settings is bare) == bool(dead)

    assert len(suspected[Settings()]) < len(suspected[bare]) / 10


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("frozen_s", [0.3, 3.0, 60.0])
@pytest.mark.parametrize("size", [2, 3, 10])
def test_a_member_that_did_not_run_blames_nobody(size, frozen_s, seed):
    group = Group(size, seed).form()

    group.freeze("m01", frozen_s)
    group.run(frozen_s + 5)

    assert [] == [name for _, _, name in group.seen(State.DEAD) if name != "m01"]
    assert group.agree(group.everybody())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [2, 10, 50])
def test_a_leaving_member_is_never_suspected(size, seed):
    group = Group(size, seed, loss=0.05, wire=size < 50).form()
    group.run(10)
    start = group.now

    group.leave("m01")
    assert group.run_until(lambda: "m01" in group.left, 10) is not None

    assert group.agree(group.everybody(m01=State.LEFT))
    group.run(20)
    assert [] == group.seen(State.SUSPECT, "m01", start) + group.seen(State.DEAD, "m01", start)


@pytest.mark.parametrize("down_s", [0.1, 10])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_member_that_starts_anew_is_alive_to_all(seed, down_s):
    group = Group(5, seed, loss=0.05).form()
    group.kill("m01")
    group.run(down_s)

    group.boot("m01")

    assert group.run_until(lambda: group.agree(group.everybody()), 5) is not None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [5, 10])
def test_challenges_stand_in_nobodys_way(size, seed):
    """With sealed datagrams, taken only from who has proved its epoch on a stream."""
    group = Group(size, seed, loss=0.05, duplicates=0.1, sealed=True).form()
    group.run(10)
    assert {"replayed"} == group.new_drops(20)

    group.kill("m01")
    group.run(0.1)
    group.boot("m01")

    assert group.run_until(lambda: group.agree(group.everybody()), 5) is not None
    assert {"stale_epoch", "not_challenged"} & group.new_drops(10)
    assert {"replayed"} == group.new_drops(20)
    assert [] == group.seen(State.DEAD)


def test_all_start_anew_after_one_has_left():
    group = Group(3, 1).form()
    group.leave("m01")
    group.run(5)

    group.boot("m01")

    assert group.run_until(lambda: group.agree(group.everybody()), 5) is not None


def test_records_reach_all_and_outlive_nothing_that_was_deleted():
    group = Group(10, 1, loss=0.2).form()

    def known(name):
        records = group.members[name].swim.records()
        return {one.key: one.value for one in records if one.value is not None}

    for number in range(60):
        group.write("m01", f"node{number}", b"x" * 300)
    group.write("m01", "node7", None)

    expected = {f"node{number}": b"x" * 300 for number in range(60) if number != 7}
    everyone = range(len(group.names))
    assert group.run_until(lambda: all(known(group.names[n]) == expected for n in everyone), 30)

    group.kill("m01")
    group.run(10)
    group.boot("m01")
    group.write("m01", "node1", b"new")

    # What it said before its restart, and does not say any more, goes.
    assert group.run_until(
        lambda: all(known(group.names[n]) == {"node1": b"new"} for n in everyone), 30
    )


def test_load_stays_bounded_however_large_the_group():
    per_second = {}
    for size in (3, 10, 50):
        group = Group(size, 1, wire=False).form()
        group.run(10)
        group.datagrams.clear()
        group.run(60)
        per_second[size] = max(group.datagrams.values()) / 60

    # A ping and an ack each period, of one's own and of another's probe.
    assert all(
        2 * 2 * math.ceil(1 / timing(Settings(), size).probe_s) >= rate
        for size, rate in per_second.items()
    )


def test_a_seed_replays_everything():
    first, second = (Group(10, 7, loss=0.2, duplicates=0.1, drift=1e-3) for _ in range(2))
    first.run(30)
    second.run(30)

    assert first.events == second.events
    assert first.bytes == second.bytes
