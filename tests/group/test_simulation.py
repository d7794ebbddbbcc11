# SPDX-License-Identifier: Apache-2.0
"""Whole groups of the real parts in virtual time; what must hold at every moment `Watch` sees.

A failure names the group with its seed and the time; the same test with that seed replays it.
With GALELB_SIMULATION_SEEDS=N there are N random schedules of faults instead of some, and a group
of 50, which takes a minute.
"""

import os

import pytest

from galelb.group.addresses import Addresses
from galelb.group.joining import Joining
from galelb.group.quorum import Standing
from tests.group.faults import Faults
from tests.group.simulation import Cluster
from tests.group.virtual_time import virtual_time
from tests.group.watch import Violated

SEEDS = range(3)
RANDOM_SEEDS = range(int(os.environ.get("GALELB_SIMULATION_SEEDS", "24")))
LARGE = [(20, 6.0)] + [(50, 15.0)] * ("GALELB_SIMULATION_SEEDS" in os.environ)
TAKEOVER_S = 1.5
HEALED_S = 5.0
PENALTY_S = 60.0


@pytest.fixture(autouse=True)
def _virtual_time():
    with virtual_time():
        yield


def owned(cluster, names=None):
    """Whether each VIP has one owner who runs, among `names`."""
    names = set(cluster.names if names is None else names)
    holders = cluster.holders()
    return all(len(names & set(holders[vip])) == 1 for vip in cluster.vips)


def busiest(cluster):
    """Return who has most VIPs."""
    holders = cluster.holders()
    return max(cluster.names, key=lambda name: sum(name in holders[vip] for vip in cluster.vips))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [2, 3, 5, 10])
@pytest.mark.parametrize(("loss", "within"), [(0.0, TAKEOVER_S), (0.05, 2 * TAKEOVER_S)])
def test_vips_of_a_dead_machine_have_an_owner_soon(size, seed, loss, within):
    cluster = Cluster(size, seed, loss=loss).form()
    cluster.run(3 + 0.037 * seed)

    cluster.power_off(busiest(cluster))

    took = cluster.run_until(lambda: owned(cluster), 10)
    assert took is not None, cluster
    assert took <= within, cluster


@pytest.mark.parametrize(("size", "within"), LARGE)
def test_one_of_many_is_followed_within_the_bounds_of_gossip(size, within):
    cluster = Cluster(size, 1, nodes=2).form()

    cluster.power_off(busiest(cluster))

    assert cluster.run_until(lambda: owned(cluster), within) is not None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("pause_s", [0.3, 2.0, 5.0])
@pytest.mark.parametrize("death", [Cluster.kill, Cluster.power_off, Cluster.leave])
def test_a_returner_has_all_flows_before_it_takes_its_address(death, pause_s, seed):
    cluster = Cluster(3, seed, transfer=(1.0, 4.0)).form()
    name = busiest(cluster)
    death(cluster, name)
    cluster.run(pause_s)
    cluster.run_until(lambda: name not in cluster.running(), 5)

    cluster.boot(name)

    assert cluster.run_until(cluster.settled, 20) is not None, cluster
    assert cluster.watch.doubled_s <= 0.1, cluster


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("size", "few"), [(3, 1), (4, 1), (5, 2), (10, 4)])
def test_a_minority_gives_all_up_and_tables_are_equal_after_healing(size, few, seed):
    cluster = Cluster(size, seed, loss=0.02, drift=1e-3).form()
    minority, majority = cluster.names[:few], cluster.names[few:]
    nodes = list(cluster.nodes)

    cluster.part(minority, majority, nodes=(nodes[:1], nodes[1:]))
    assert cluster.run_until(lambda: owned(cluster, majority), 3 * TAKEOVER_S) is not None, cluster
    cluster.run(30)
    for name in minority:
        assert Standing.CUT_OFF is cluster.balancers[name].state.standing, cluster
        assert set() == cluster.machines[name].holds(cluster.now), cluster

    cluster.heal()
    cluster.run(HEALED_S)
    assert cluster.tables_equal(), cluster
    assert owned(cluster), cluster
    assert cluster.run_until(cluster.settled, 10) is not None, cluster


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pair_goes_on_alone_and_has_one_owner_after_healing(seed):
    cluster = Cluster(2, seed).form()
    cluster.part(*[[name] for name in cluster.names])
    cluster.run(20)
    assert all(len(who) == 2 for who in cluster.holders().values())

    cluster.heal()
    cluster.run(HEALED_S)

    assert cluster.settled(), cluster


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("deaf", [True, False], ids=["deaf", "mute"])
def test_others_own_all_vips_while_one_has_half_a_link(deaf, seed):
    cluster = Cluster(5, seed).form()
    one, rest = cluster.names[:1], cluster.names[1:]

    cluster.cut(*((rest, one) if deaf else (one, rest)), one_way=True)
    cluster.run(30)

    assert owned(cluster, rest), cluster
    assert set() == cluster.machines[one[0]].holds(cluster.now), cluster


@pytest.mark.parametrize("seed", SEEDS)
def test_decisions_of_both_sides_of_a_cut_become_one(seed):
    cluster = Cluster(5, seed).form()
    node, other = list(cluster.nodes)[:2]
    cluster.part(cluster.names[:2], cluster.names[2:])
    cluster.run(1)
    cluster.balancers["m00"].decide(node, draining=True)
    cluster.balancers["m04"].decide(node, draining=False)
    cluster.balancers["m04"].decide(other, draining=True)
    cluster.run(20)

    cluster.heal()
    cluster.run(HEALED_S)

    decided = {tuple(sorted(one.state.decisions.dump().items())) for one in cluster.live()}
    assert len(decided) == 1, cluster
    assert cluster.tables_equal(), cluster


@pytest.mark.parametrize("seed", SEEDS)
def test_who_lost_all_waits_for_what_others_have_though_all_are_there(seed):
    """They are known to live before they have said anything, and so before they are followed."""
    cluster = Cluster(4, seed, transfer=(2.0, 6.0)).form()
    for name in cluster.names[1:]:
        cluster.kill(name)
    cluster.power_off("m00")
    cluster.boot("m00")
    cluster.run(4)

    for name in cluster.names[1:]:
        cluster.boot(name)

    assert cluster.run_until(cluster.settled, 20) is not None, cluster


def test_one_of_three_that_starts_alone_takes_nothing():
    cluster = Cluster(3, 1, start=["m01"])

    cluster.run(30)

    assert Standing.FORMING is cluster.balancers["m01"].state.standing
    assert set() == cluster.machines["m01"].holds(cluster.now)
    assert cluster.balancers["m01"].table


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("slow_s", "most"), [(0.1, 0), (0.3, 0), (1.0, 3)])
def test_vips_do_not_go_to_and_fro_with_a_slow_member(slow_s, most, seed):
    cluster = Cluster(3, seed).form()

    cluster.slow(busiest(cluster), slow_s)
    cluster.run(60)

    assert max(cluster.watch.moves.values(), default=0) <= most, cluster


def test_loss_moves_no_address_and_changes_no_table():
    cluster = Cluster(10, 1, loss=0.05, duplicates=0.02, drift=1e-3).form()
    before = cluster.holders(), cluster.live()[0].table

    cluster.run(600)

    assert before == (cluster.holders(), cluster.live()[0].table)
    assert not cluster.watch.moves


def test_of_equal_translation_addresses_one_is_used():
    twin = Cluster(3, 1).machines["m00"].source
    cluster = Cluster(3, 1, sources={"m02": twin})

    cluster.run(20)

    makers = [name for name, one in cluster.machines.items() if one.allocates(cluster.now)]
    assert ["m00", "m01"] == makers


@pytest.mark.parametrize("seed", RANDOM_SEEDS)
def test_all_is_well_after_any_faults(seed):
    size = (2, 3, 3, 4, 5, 7)[seed % 6]
    cluster = Cluster(
        size,
        seed,
        loss=(0, 0.02, 0.05)[seed % 3],
        drift=1e-3,
        transfer=((0.05, 0.5), (1.0, 6.0))[seed // 6 % 2],
    ).form()
    faults = Faults(cluster, seed)

    faults.happen(12)

    took = cluster.run_until(cluster.settled, PENALTY_S + 20)
    assert took is not None, (str(cluster), faults.told, cluster.holders())


def test_who_takes_its_address_without_copies_is_seen(monkeypatch):
    cluster = Cluster(3, 1, transfer=(4.0, 4.0)).form()
    monkeypatch.setattr(Joining, "ready", lambda *_, **__: True)
    cluster.power_off("m01")
    cluster.run(5)
    cluster.boot("m01")

    with pytest.raises(Violated, match="without"):
        cluster.run(10)


def test_who_makes_flows_while_cut_off_is_seen(monkeypatch):
    cluster = Cluster(3, 1).form()
    monkeypatch.setattr(Addresses, "_may_allocate", lambda _: True)
    cluster.part(["m01"], ["m00", "m02"])

    with pytest.raises(Violated, match="makes flows"):
        cluster.run(20)


def test_two_who_make_flows_on_one_address_are_seen(monkeypatch):
    twin = Cluster(3, 1).machines["m00"].source
    cluster = Cluster(3, 1, sources={"m02": twin})
    monkeypatch.setattr(Addresses, "_may_allocate", lambda _: True)

    with pytest.raises(Violated, match="make flows on"):
        cluster.run(20)
