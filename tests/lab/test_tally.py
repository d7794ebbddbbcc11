# SPDX-License-Identifier: Apache-2.0
"""Which failures an event explains, and what the demo prints."""

from typing import Any

import attrs
import pytest

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


def test_young_connections_may_die_with_the_balancer_that_made_them() -> None:
    young, old, later = (download(at, at + 9, error="reset") for at in (1.6, 1.4, 2.1))
    window = Window(event="balancer_kill", host="lb1", start=2, end=4, young_s=0.5)

    assert [old, later] == tally_of(young, old, later, windows=(window,)).broken


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


def held(start: float, end: float, **values: Any) -> Result:
    return Result(kind="held", start=start, end=end, target=TARGET, node="n1", **values)


def test_nothing_that_lasts_breaks_with_a_balancer() -> None:
    window = Window(event="balancer_kill", host="lb1", start=10, end=13, recovered=11)
    late = request(10.5, 11.5, node="", error="connect_timeout")
    broken, lost = held(5, 12, error="read_timeout"), download(5, 12, error="reset")
    tally = tally_of(broken, lost, late, windows=(window,))

    assert ([broken], [lost]) == (tally.broken_held, tally.broken)
    assert [] == tally.unexplained
    assert {"failed": 1, "recovered_s": 1.5} == tally.to_json()["balancer_kill"]


def test_held_connections_are_counted_apart() -> None:
    tally = tally_of(held(0, 9, stall_s=1.25), held(0, 9, stall_s=0.5), held(0, 3, error="reset"))

    assert {"total": 3, "broken": 1, "longest_stall_s": 1.25} == tally.to_json()["held"]
    assert 0 == tally.requests
    assert "1 held connections broke without a reason" in problems_of(tally.to_json())


def test_held_connections_break_with_their_node() -> None:
    tally = tally_of(held(0, 10.5, error="reset"), windows=(death("n1", 10, 11),))

    assert [] == tally.broken_held


def test_an_address_has_answered_since_the_last_request_of_it_began() -> None:
    tally = tally_of(request(1, 9), request(3, 4), request(5, 6, error="reset"))

    assert 3 == tally.answered_since(TARGET)
    assert tally.answered_since("203.0.113.12:8080") < 0


@pytest.mark.parametrize(
    ("end", "back"), [("node_return", 1), ("balancer_return", 1), ("heal", 1), ("heal", None)]
)
def test_who_was_lost_is_so_until_it_recovered(end: str, back: float | None) -> None:
    tally = tally_of(
        windows=(
            Window(event="partition", host="lb1", start=0, recovered=0.5),
            Window(event=end, host="lb1", start=0.7, recovered=back),
        )
    )

    assert (back is None) == ("lb1" in tally.dead)


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
