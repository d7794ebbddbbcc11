# SPDX-License-Identifier: Apache-2.0
"""Which failures an event explains, and what the demo prints."""

from typing import Any

import attrs

from galelb.lab.demo import problems_of
from galelb.lab.jobs import Result
from galelb.lab.tally import Tally, Window

TARGET = "203.0.113.11:8080"


def request(start: float, end: float, *, node: str = "n1", error: str | None = None) -> Result:
    return Result(kind="request", start=start, end=end, target=TARGET, node=node, error=error)


def download(start: float, end: float, *, node: str = "n1", error: str | None = None) -> Result:
    return Result(kind="download", start=start, end=end, target=TARGET, node=node, error=error)


def death(node: str, start: float, end: float | None) -> Window:
    return Window(event="node_kill", host=node, start=start, end=end, recovered=start + 0.1)


def tally_of(*results: Result, windows: tuple[Window, ...] = ()) -> Tally:
    tally = Tally(["n1", "n2"])
    tally.windows.extend(windows)
    for result in results:
        tally.add(result)
    return tally


def moved(start: float, end: float | None) -> Window:
    return Window(event="node_return", host="n2", start=start, end=end, moves_flows=True)


def test_a_stateless_forwarder_may_end_other_nodes_downloads_while_nodes_change() -> None:
    inside, later = download(0, 3, error="reset"), download(0, 5, error="reset")

    assert [later] == tally_of(inside, later, windows=(moved(2, 4),)).broken
    assert [] == tally_of(inside, later, windows=(moved(2, None),)).broken


def test_answers_are_counted_per_node() -> None:
    tally = tally_of(request(0, 1), request(1, 2), request(2, 3, node="n2"))

    assert {"n1": 2, "n2": 1} == dict(tally.per_node)
    assert 3 == tally.requests
    assert 0 == tally.failures


def test_a_failure_without_an_event_is_unexplained() -> None:
    failure = request(1, 2, error="reset")
    tally = tally_of(failure)

    assert [failure] == tally.unexplained


def test_a_failure_that_overlaps_the_window_is_the_events() -> None:
    window = death("n1", 10, 11)
    before = request(8, 9.9, error="reset")
    across = request(9, 10.5, error="reset", node="")
    inside = request(10.2, 10.4, error="refused", node="")
    late = request(10.9, 12, error="connect_timeout", node="")
    after = request(11.1, 12, error="refused", node="")
    tally = tally_of(before, across, inside, late, after, windows=(window,))

    assert [across, inside, late] == tally.failures_in(window)
    assert [before, after] == tally.unexplained


def test_an_open_window_goes_on() -> None:
    tally = tally_of(request(100, 101, error="reset"), windows=(death("n1", 10, None),))

    assert [] == tally.unexplained


def test_downloads_break_only_with_their_own_node() -> None:
    own = download(5, 10.2, node="n1", error="reset")
    other = download(5, 10.2, node="n2", error="reset")
    starting = download(10.1, 10.2, node="", error="refused")
    tally = tally_of(own, other, starting, windows=(death("n1", 10, 11),))

    assert [other] == tally.broken
    assert [] == tally.unexplained


def test_downloads_break_with_their_own_balancer() -> None:
    window = Window(
        event="balancer_kill", host="lb1", start=10, end=13, targets=frozenset({TARGET})
    )
    tally = tally_of(download(5, 12, node="n2", error="read_timeout"), windows=(window,))

    assert [] == tally.broken


def test_the_object_that_programs_read() -> None:
    window = death("n1", 10, 11)
    tally = tally_of(
        request(0, 1),
        request(1, 2, node="n2"),
        request(10, 10.5, error="reset"),
        download(0, 4),
        windows=(window,),
    )

    assert {
        "requests": 3,
        "failed": 0,
        "per_node": {"n1": 1, "n2": 1},
        "node_kill": {"failed": 1, "recovered_s": 0.5},
        "downloads": {"total": 1, "broken": 0},
    } == tally.to_json()


def test_what_makes_a_demo_fail() -> None:
    good = {
        "failed": 0,
        "per_node": {"n1": 1},
        "node_kill": {"failed": 3, "recovered_s": 0.5},
        "downloads": {"total": 1, "broken": 0},
    }
    bad = {
        "failed": 2,
        "per_node": {"n1": 0},
        "node_return": {"failed": 0, "recovered_s": None},
        "downloads": {"total": 1, "broken": 1},
    }

    assert [] == problems_of(good)
    assert 4 == len(problems_of(bad))


def test_answers_that_take_a_detour_make_a_demo_fail() -> None:
    good: dict[str, Any] = {
        "failed": 0,
        "per_node": {"n1": 1},
        "downloads": {"total": 1, "broken": 0},
        "answers_past_balancer": {"answers": 10, "relayed": 0},
        "client_address_seen": {"own": 4, "other": 0},
    }
    detour = {"answers_past_balancer": {"answers": 10, "relayed": 1}}
    stranger = {"client_address_seen": {"own": 4, "other": 1}}
    nothing = {
        "answers_past_balancer": {"answers": 0, "relayed": 0},
        "client_address_seen": {"own": 0, "other": 0},
    }

    assert [] == problems_of(good)
    assert [] == problems_of(good | {"answers_past_balancer": None})
    assert ["1 answers passed a balancer"] == problems_of(good | detour)
    assert 1 == len(problems_of(good | stranger))
    assert 2 == len(problems_of(good | nothing))


def test_what_nodes_saw_is_counted() -> None:
    seen = [True, True, False, None]
    tally = tally_of(*(attrs.evolve(request(0, 1), seen_as_itself=one) for one in seen))

    assert {True: 2, False: 1} == tally.seen_as


def test_the_rate_is_of_late() -> None:
    tally = tally_of(*(request(at, at) for at in (0.0, 10.0, 10.5, 11.0, 11.5)))

    assert 2.0 == tally.rate(11.5)


def test_who_was_seen_last() -> None:
    tally = tally_of(request(0, 1), request(2, 3), request(4, 5, error="reset"))

    assert 3 == tally.last_seen("n1")
    assert tally.last_seen("n2") < 0
