# SPDX-License-Identifier: Apache-2.0
"""Two balancers and one client: what the one knows of a flow, the other one goes on with."""

from __future__ import annotations

import attrs
import pytest
from galelb_plugins.l4_nat.sweep import What, current_tick, sweep

from galelb.abi import Reason
from galelb.errors import RemoteProtocolError
from galelb.flowshare import Accepted
from galelb.testing.runner import Verdict
from galelb.testing.world import PRIVATE

pytestmark = pytest.mark.bpf

KINDS = ["tcp4", "udp4", "tcp6", "udp6", "vlan4", "vlan6"]
MODES = ["full_nat", "dnat"]


def ack(play):
    return {"flags": "A"} if play.tcp else {}


def exchange(balancers) -> list[Accepted]:
    """Everybody tells everybody once."""
    return [
        result
        for one in balancers
        for result in one.tell(*(other for other in balancers if other is not one))
    ]


def sum_of(results, name: str) -> int:
    return sum(getattr(result, name) for result in results)


def goes_on(balancer, play) -> None:
    """A packet each way of a flow that began elsewhere, byte by byte."""
    there = balancer.take_over(play)
    out = there.send(play.talk.to_vip(payload=b"x", **ack(play)), play.client_side)
    back = there.send(play.talk.from_node(payload=b"y", **ack(play)), PRIVATE)

    assert Reason.FORWARDED is out.reason
    assert play.talk.to_node(payload=b"x", **ack(play)) == out.data
    assert Reason.RETURNED is back.reason
    assert play.talk.to_client(payload=b"y", **ack(play)) == back.data


@pytest.mark.parametrize(
    ("context", "kind"),
    # test runs of TC cannot tell the tag that a frame gets
    [("xdp", kind) for kind in KINDS] + [("tc", kind) for kind in KINDS[:4]],
)
@pytest.mark.parametrize("mode", MODES)
def test_a_flow_goes_on_at_another_balancer(group, audit, mode, context, kind) -> None:
    first, second = group(mode, context)
    play = first.play(kind)
    play.establish()

    results = first.tell(second)
    goes_on(second, play)

    assert (1, 0) == (sum_of(results, "added"), sum_of(results, "refused"))
    ours, theirs = first.flow(play), second.flow(play)
    host = first.runner.world.host
    tick_s = (1 << host.tick_shift) / host.hz  # one may have begun between the looks
    assert ours == attrs.evolve(theirs, idle_s=pytest.approx(ours.idle_s, abs=tick_s))
    assert [] == audit(second.runner).problems


@pytest.mark.parametrize("mode", MODES)
def test_everything_is_for_who_comes_late(group, audit, mode) -> None:
    first, second = group(mode)
    plays = [first.play(kind) for kind in KINDS for _ in range(5)]
    for play in plays:
        play.establish()
    first.share.changes()

    results = [second.share.accept(batch) for batch in first.share.everything()]

    assert 0 == sum_of(results, "refused")
    assert 30 <= sum_of(results, "added") + sum_of(results, "known")
    for play in plays:
        goes_on(second, play)
    assert [] == audit(second.runner).problems


def state(balancer, play) -> str:
    return balancer.flow(play).state


def test_states_follow(group) -> None:
    first, second = group()
    play = first.play("tcp4")
    play.open()
    first.tell(second)
    seen = [state(second, play)]
    for data, side in (
        (lambda: play.talk.from_node(flags="SA"), PRIVATE),
        (lambda: play.talk.to_vip(flags="A"), play.client_side),
        (lambda: play.talk.to_vip(flags="FA"), play.client_side),
        (lambda: play.talk.from_node(flags="FA"), PRIVATE),
    ):
        play.send(data(), side)
        first.tell(second)
        seen.append(state(second, play))

    assert ["syn_sent", "syn_received", "established", "closing", "closed"] == seen


def test_a_reset_follows_and_so_does_what_overrules_it(group) -> None:
    first, second = group()
    play = first.play("tcp4")
    play.establish()
    play.send(play.talk.from_node(flags="R"), PRIVATE)
    first.tell(second)
    reset = state(second, play)
    play.send(play.talk.from_node(flags="A"), PRIVATE)  # it was forged: the node goes on

    first.tell(second)

    assert ["reset", "established"] == [reset, state(second, play)]


def test_an_answer_at_the_one_and_a_packet_at_the_other_make_one_state(group) -> None:
    """A router may send the client's packets to the one and the node's to the other."""
    first, second = group()
    play = first.play("tcp4")
    play.open()
    first.tell(second)
    there = second.take_over(play)

    there.send(play.talk.from_node(flags="SA"), PRIVATE)
    second.tell(first)
    play.send(play.talk.to_vip(flags="A"), play.client_side)
    first.tell(second)

    assert ["established"] * 2 == [state(one, play) for one in (first, second)]


@pytest.mark.parametrize("mode", MODES)
def test_who_tells_each_other_grows_quiet(group, mode) -> None:
    balancers = group(mode, count=3)
    for number, kind in enumerate(KINDS * 4):
        balancers[number % 3].play(kind).establish()
    heard = exchange(balancers)
    settled = exchange(balancers)

    assert 24 * 2 == sum_of(heard, "added")
    assert [] == settled
    assert [[], [], []] == [one.share.changes() for one in balancers]


def test_a_port_that_is_given_anew_ousts_the_copy_of_the_old_flow(group, audit) -> None:
    """The other one hears nothing of the end of a flow, only of the next one by its port."""
    first, second = group(hurry=True, ports=(3000, 3000), port_quarantine=10.0)
    service = first.service("tcp4")
    number = next(n for n, one in first.runner.services.items() if one == service)
    nodes = [n for n in first.runner.world.nodes if n.address.version == 4][:1]
    first.runner.set_table(number, nodes)
    old, new = first.play("tcp4"), first.play("tcp4")
    old.establish()
    first.tell(second)
    old.send(old.talk.to_vip(flags="R"), old.client_side)
    old.open()  # a port in quarantine is not given again
    wait(first, 12.0)
    first.runner.run_raw(new.talk.to_vip(flags="R"))
    sweep(first.runner, What.FLOWS, 4, 0, 1 << 10)
    new.establish()

    results = first.tell(second)

    assert (1, 0) == (sum_of(results, "added"), sum_of(results, "refused"))
    assert (None, 3000) == (second.flow(old), second.flow(new).source_port)
    goes_on(second, new)
    assert [] == audit(second.runner).problems


def wait(balancer, seconds: float) -> None:
    runner = balancer.runner
    start = current_tick(runner)
    while (current_tick(runner) - start) % 65536 < runner.world.host.ticks(seconds):
        pass


def test_the_younger_one_of_two_flows_of_a_client_is_everybody_s(group, audit) -> None:
    first, second = group(hurry=True, tcp_established_timeout=3600.0)
    play = first.play("tcp4")
    play.establish()
    wait(first, 3.0)
    there = second.play("tcp4")
    there.talk.client, there.talk.client_port = play.talk.client, play.talk.client_port
    there.establish()

    ours, theirs = first.tell(second), second.tell(first)

    assert (1, 1) == (sum_of(ours, "refused"), sum_of(theirs, "updated"))
    assert first.flow(play).source_port == second.flow(play).source_port
    assert there.talk.source == str(first.flow(play).source)
    goes_on(first, there)
    assert [[], []] == [audit(one.runner).problems for one in (first, second)]


def test_flows_wait_for_their_slices(group) -> None:
    first, second = group()
    second.meet()  # nobody: slices of the first one go when their place is wanted, not before
    for key, leaf in list(second.runner.maps["l4_nat_slices"].items()):
        if leaf["source_index"] > 1:
            second.runner.maps["l4_nat_slices"].delete(key)
    second.runner.replan()
    play = first.play("tcp4")
    play.establish()

    early = first.tell(second)
    second.meet(first)
    second.share.changes()

    assert [1, 0] == [sum_of(early, "waiting"), second.share.waiting]
    goes_on(second, play)


def test_a_copy_is_kept_young(group) -> None:
    """One flow is quiet, the other one is used: only that one is told of again."""
    first, second = group(hurry=True, udp_timeout=40.0)
    quiet, used = first.play("udp4"), first.play("udp4")
    for play in (quiet, used):
        play.establish()
        play.send(play.talk.to_vip(payload=b"replied"), play.client_side)
    first.tell(second)
    wait(first, 14.0)
    used.send(used.talk.to_vip(payload=b"again"), used.client_side)

    results = first.tell(second)
    soon = first.tell(second)

    assert [(1, 0), []] == [(sum_of(results, "updated"), sum_of(results, "added")), soon]


@pytest.mark.parametrize("context", ["xdp", "tc"])
@pytest.mark.parametrize("mode", MODES)
def test_new_flows_need_a_permit_and_old_ones_none(group, mode, context) -> None:
    first, _ = group(mode, context)
    old, new, later = (first.play("tcp4") for _ in range(3))
    old.establish()

    first.share.permit(0, whole=True)
    goes_on(first, old)
    refused = new.open()
    first.share.permit(3600, whole=True)
    permitted = new.open()
    first.share.permit(None, whole=True)

    assert [Reason.NO_LEASE, Reason.FORWARDED] == [refused.reason, permitted.reason]
    assert Reason.FORWARDED is later.open().reason


def test_a_permit_ends(group) -> None:
    first, _ = group()
    first.share.permit(1e-9, whole=True)

    refused = first.play("udp6").open()

    assert Reason.NO_LEASE is refused.reason
    first.share.permit(None, whole=True)


def test_a_plan_does_not_renew_a_permit(group) -> None:
    first, _ = group()
    first.share.permit(0, whole=True)
    first.runner.replan()

    refused = first.play("tcp4").open()

    assert Reason.NO_LEASE is refused.reason
    first.share.permit(None, whole=True)


def test_while_the_copy_is_incomplete_unknown_flows_are_not_adopted(group) -> None:
    first, _ = group()
    first.share.permit(None, whole=False)
    unknown, new = first.play("tcp4"), first.play("tcp4")

    adopted = unknown.send(unknown.talk.to_vip(flags="A"), unknown.client_side)
    begun = new.open()

    assert [Reason.NO_FLOW, Reason.FORWARDED] == [adopted.reason, begun.reason]
    first.share.permit(None, whole=True)


@pytest.mark.parametrize("context", ["xdp", "tc"])
@pytest.mark.parametrize("kind", KINDS[:4])
def test_while_the_copy_is_incomplete_answers_of_unknown_flows_are_not_reset(
    group, context, kind
) -> None:
    """The kernel has the address, and would end what the next batch makes known."""
    first, second = group("full_nat", context, name="stray")
    play = first.play(kind)
    play.open()
    there = second.take_over(play)
    answer = play.talk.from_node(**({"flags": "SA"} if play.tcp else {}))

    second.share.permit(None, whole=False)
    kept = there.send(answer, PRIVATE)
    second.share.permit(None, whole=True)
    passed = there.send(answer, PRIVATE)
    first.tell(second)
    known = there.send(answer, PRIVATE)

    assert [Reason.NO_FLOW, Reason.RETURNED] == [kept.reason, known.reason]
    assert Verdict.PASS is passed.verdict


def test_new_flows_never_come_from_a_guest_s_address(group) -> None:
    first, second = group()
    own = {str(one.address) for one in first.share.own()}
    plays = [first.play(kind) for kind in ("tcp4", "udp6") for _ in range(20)]

    for play in plays:
        play.open()

    assert own == {play.talk.source for play in plays}
    assert own.isdisjoint({str(one.address) for one in second.share.own()})


def test_garbage_changes_nothing(group) -> None:
    first, second = group()
    first.play("tcp4").establish()
    (batch,) = first.share.changes()

    with pytest.raises(RemoteProtocolError):
        second.share.accept(batch[:-1])
    with pytest.raises(RemoteProtocolError):
        second.share.accept(b"")

    assert 1 == second.share.accept(batch).added
