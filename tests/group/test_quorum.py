# SPDX-License-Identifier: Apache-2.0
"""What a balancer takes for routable: alone, with others, and cut off from them."""

from __future__ import annotations

import pytest

from galelb.group.quorum import Standing, Verdicts, is_quorum

TIMEOUT = 1.0
NODES = ["a", "b", "c", "d"]


def three(*, alive: tuple[str, ...] = ("p", "q")) -> Verdicts:
    verdicts = Verdicts(3, TIMEOUT)
    verdicts.members(alive, 0.0)
    return verdicts


def cut_off(nodes: list[str]) -> Verdicts:
    """Return those of one of three that has lost the others; it hears all nodes."""
    verdicts = three()
    for node in nodes:
        verdicts.say(node, True, 0.0)
    for peer in ("p", "q"):
        verdicts.hear(peer, dict.fromkeys(nodes, True), 0.0)
    verdicts.members((), 0.0)
    return verdicts


@pytest.mark.parametrize(
    ("alive", "size", "quorum"),
    [(1, 1, True), (1, 2, True), (1, 3, False), (2, 3, True), (2, 4, False), (3, 4, True)],
)
def test_a_quorum_is_more_than_half_and_pairs_always_have_one(
    alive: int, size: int, quorum: bool
) -> None:
    assert quorum is is_quorum(alive, size)


def test_before_the_first_quorum_the_own_view_counts() -> None:
    verdicts = three(alive=())
    verdicts.say("a", True, 0.0)
    verdicts.say("b", False, 0.0)

    assert Standing.FORMING is verdicts.standing
    assert {"a": True, "b": False} == verdicts.routable(0.0)


@pytest.mark.parametrize(
    ("own", "p", "q", "routable"),
    [
        (True, False, False, False),
        (False, True, True, True),
        (True, True, False, True),
        (False, False, True, False),
    ],
)
def test_the_majority_decides(own: bool, p: bool, q: bool, routable: bool) -> None:
    verdicts = three()
    verdicts.say("a", own, 0.0)
    verdicts.hear("p", {"a": p}, 0.0)
    verdicts.hear("q", {"a": q}, 0.0)

    assert {"a": routable} == verdicts.routable(0.0)


def test_a_tie_is_routable() -> None:
    verdicts = three()
    verdicts.say("a", False, 0.0)
    verdicts.hear("p", {"a": True}, 0.0)

    assert {"a": True} == verdicts.routable(0.0)


def test_a_node_that_only_others_know_is_theirs_to_judge() -> None:
    verdicts = three()
    verdicts.hear("p", {"a": True, "b": False}, 0.0)

    assert {"a": True, "b": False} == verdicts.routable(0.0)


def test_opinions_that_are_old_do_not_count() -> None:
    verdicts = three()
    verdicts.say("a", False, 0.0)
    verdicts.hear("p", {"a": True}, 0.0)
    verdicts.hear("q", {"a": True}, 0.0)

    assert {"a": True} == verdicts.routable(2 * TIMEOUT)
    assert {"a": False} == verdicts.routable(2 * TIMEOUT + 0.01)


def test_who_names_a_node_no_more_has_no_opinion_of_it() -> None:
    verdicts = three()
    verdicts.say("a", False, 0.0)
    verdicts.hear("p", {"a": True}, 0.0)
    verdicts.hear("p", {}, 0.1)

    assert {"a": False} == verdicts.routable(0.1)


def test_the_dead_and_strangers_are_not_heard() -> None:
    verdicts = three(alive=("p",))
    verdicts.say("a", False, 0.0)
    verdicts.hear("q", {"a": True}, 0.0)
    verdicts.hear("stranger", {"a": True}, 0.0)
    assert {"a": False} == verdicts.routable(0.0)

    verdicts.hear("p", {"a": True}, 0.0)
    verdicts.members(("q",), 0.0)
    assert {"a": False} == verdicts.routable(0.0)


def test_cut_off_keeps_what_was_agreed_and_adds_nothing() -> None:
    verdicts = cut_off(["a"])
    verdicts.say("b", True, 5.0)

    assert Standing.CUT_OFF is verdicts.standing
    assert {"a": True, "b": False} == verdicts.routable(5.0)


def test_cut_off_a_node_that_leaves_and_joins_again_stays_out() -> None:
    verdicts = cut_off(["a"])
    verdicts.forget("a")
    verdicts.say("a", True, 5.0)

    assert {"a": False} == verdicts.routable(5.0)


def test_nothing_waits_for_a_judgement_once_the_cut_is_over() -> None:
    verdicts = cut_off(NODES)
    verdicts.say(NODES[0], False, 1.0)

    assert verdicts.due() is not None

    verdicts.members(("x", "y"), 1.5)

    assert verdicts.due() is None


def test_cut_off_a_node_that_was_not_routable_stays_so() -> None:
    verdicts = three()
    verdicts.say("a", False, 0.0)
    verdicts.members((), 0.0)
    verdicts.say("a", True, 1.0)

    assert {"a": False} == verdicts.routable(9.0)


def test_cut_off_a_node_goes_that_fails_alone() -> None:
    verdicts = cut_off(NODES)
    verdicts.say("a", False, 5.0)

    assert 5.0 + TIMEOUT == verdicts.due()
    assert verdicts.routable(5.0)["a"]
    assert {"a": False, "b": True, "c": True, "d": True} == verdicts.routable(5.0 + TIMEOUT)
    assert verdicts.due() is None


def test_cut_off_nodes_that_fail_together_stay() -> None:
    verdicts = cut_off(NODES)
    for node in NODES[:3]:
        verdicts.say(node, False, 5.0)

    assert dict.fromkeys(NODES, True) == verdicts.routable(5.0 + TIMEOUT)


def test_cut_off_the_only_node_stays() -> None:
    verdicts = cut_off(["a"])
    verdicts.say("a", False, 5.0)

    assert {"a": True} == verdicts.routable(9.0)


def test_cut_off_nodes_that_were_down_before_say_nothing_of_the_cable() -> None:
    verdicts = three()
    for node in ("x", "y", "z"):
        verdicts.say(node, False, 0.0)
    for node in NODES:
        verdicts.say(node, True, 0.0)
    verdicts.members((), 0.0)
    verdicts.say("a", False, 5.0)

    assert not verdicts.routable(5.0 + TIMEOUT)["a"]


def test_cut_off_a_node_that_comes_back_in_time_stays() -> None:
    verdicts = cut_off(NODES)
    verdicts.say("a", False, 5.0)
    verdicts.say("a", True, 5.5)

    assert verdicts.due() is None
    assert verdicts.routable(9.0)["a"]


def test_cut_off_twice_begins_with_what_was_agreed_last() -> None:
    verdicts = cut_off(NODES)
    verdicts.say("a", False, 5.0)
    verdicts.routable(9.0)
    verdicts.members(("p",), 9.0)
    verdicts.say("a", True, 9.0)
    verdicts.members((), 10.0)

    assert dict.fromkeys(NODES, True) == verdicts.routable(10.0)


def test_one_of_a_pair_goes_on_alone() -> None:
    verdicts = Verdicts(2, TIMEOUT)
    verdicts.say("a", True, 0.0)
    verdicts.members(("p",), 0.0)
    verdicts.members((), 1.0)
    verdicts.say("a", False, 1.0)

    assert Standing.QUORATE is verdicts.standing
    assert {"a": False} == verdicts.routable(1.0)


def test_a_node_that_is_forgotten_is_gone() -> None:
    verdicts = cut_off(NODES)
    verdicts.say("a", False, 5.0)
    verdicts.forget("a")

    assert verdicts.due() is None
    assert dict.fromkeys(NODES[1:], True) == verdicts.routable(9.0)


def deaf_group() -> Verdicts:
    """Return one of three that all heard nodes a to d, at 0 s, and is deaf from then on."""
    verdicts = Verdicts(3, TIMEOUT)
    verdicts.members(["p", "q"], 0)
    heard = dict.fromkeys("abcd", True)
    for node in heard:
        verdicts.say(node, True, 0)
    verdicts.hear("p", heard, 0)
    verdicts.hear("q", heard, 0)
    verdicts.listen(0, deaf=True)
    return verdicts


def test_who_hears_no_peers_lets_a_node_go_that_failed() -> None:
    verdicts = deaf_group()
    verdicts.say("d", False, 1)
    assert verdicts.routable(1)["d"]
    assert verdicts.routable(1 + TIMEOUT) == {"a": True, "b": True, "c": True, "d": False}
    assert verdicts.standing is Standing.QUORATE


def test_who_hears_no_peers_takes_no_dead_cable_for_dead_nodes() -> None:
    verdicts = deaf_group()
    for node in "abcd":
        verdicts.say(node, False, 1)
    assert all(verdicts.routable(1 + TIMEOUT).values())


def test_a_node_that_fell_before_deafness_was_known_goes_too() -> None:
    verdicts = deaf_group()
    verdicts.listen(0, deaf=False)
    verdicts.routable(TIMEOUT)
    verdicts.say("d", False, 2 * TIMEOUT)
    verdicts.listen(2 * TIMEOUT, deaf=True)
    assert verdicts.routable(2 * TIMEOUT)["d"]
    assert not verdicts.routable(3 * TIMEOUT)["d"]


def test_what_peers_said_before_deafness_brings_nothing_back_at_once() -> None:
    verdicts = deaf_group()
    verdicts.say("d", False, 1)
    at = 1 + TIMEOUT
    assert not verdicts.routable(at)["d"]
    verdicts.hear("p", {"d": True}, at)
    verdicts.hear("q", {"d": True}, at)
    verdicts.listen(at, deaf=False)
    assert not verdicts.routable(at + TIMEOUT / 2)["d"]
    assert verdicts.routable(at + TIMEOUT)["d"]
