# SPDX-License-Identifier: Apache-2.0
"""Rates from samples: of what comes and goes, and of counters that begin anew."""

import pytest

from galelb.abi import Reason
from galelb.control.counters import outcome
from galelb.top import meter as module
from galelb.top.meter import HISTORY, Meter, rate_between
from galelb.top.values import Drop, Rate


def count(packets, size):
    return {"packets": packets, "bytes": size}


@pytest.mark.parametrize(
    ("before", "after", "elapsed", "rate"),
    [
        (count(100, 1000), count(300, 5000), 2.0, Rate(100, 16000)),
        (count(100, 1000), count(100, 1000), 1.0, Rate(0, 0)),
        (None, count(300, 5000), 2.0, None),
        (count(1, 1), None, 2.0, None),
        (count(1, 1), count(2, 2), 0.0, None),
        (count(100, 1000), count(10, 5000), 1.0, None),
        (count(100, 1000), count(200, 10), 1.0, None),
    ],
    ids=["plain", "nothing", "first", "gone", "same moment", "packets anew", "bytes anew"],
)
def test_rates(before, after, elapsed, rate):
    assert rate == rate_between(before, after, elapsed)


def test_a_first_sample_has_no_rates(make):
    frame = Meter().take(make.sample(nodes=[make.node(11, 50)], services=[make.service()]))

    assert (None, None, None) == (frame.total, frame.nodes[0].rate, frame.services[0].rate)
    assert (None,) == frame.nodes[0].history


def test_nodes_and_services_have_rates_of_their_own(make):
    meter = Meter()
    meter.take(
        make.sample(
            0.0,
            [make.node(11, 100), make.node(12, 200)],
            [make.service("web", 250), make.service("dns", 50)],
        )
    )
    frame = meter.take(
        make.sample(
            2.0,
            [make.node(11, 300), make.node(12, 200)],
            [make.service("web", 450), make.service("dns", 50)],
        )
    )

    assert [Rate(100, 80_000), Rate(0, 0)] == [row.rate for row in frame.nodes]
    assert [Rate(100, 80_000), Rate(0, 0)] == [row.rate for row in frame.services]
    assert Rate(100, 80_000) == frame.total
    assert [(None, 100), (None, 0)] == [row.history for row in frame.nodes]


def test_counters_that_begin_anew_leave_a_gap_and_go_on(make):
    meter = Meter()
    for at, packets in enumerate([1000, 1100, 20, 50]):
        frame = meter.take(make.sample(at, [make.node(11, packets)]))

    assert (None, 100, None, 30) == frame.nodes[0].history


def test_a_node_that_joins_has_a_rate_from_its_second_sample_on(make):
    meter = Meter()
    meter.take(make.sample(0.0, [make.node(11)]))
    joined = meter.take(make.sample(1.0, [make.node(11), make.node(12, 10)]))
    later = meter.take(make.sample(2.0, [make.node(11), make.node(12, 15)]))

    assert (None, Rate(5, 4000)) == (joined.nodes[1].rate, later.nodes[1].rate)


def test_what_is_gone_is_forgotten_and_histories_end_somewhere(make):
    meter = Meter()
    for at in range(HISTORY + 10):
        frame = meter.take(make.sample(at, [make.node(11, at), make.node(100 + at % 50)]))

    assert HISTORY == len(frame.nodes[0].history)
    assert {("total", ""), ("node", "10.0.0.11"), (frame.nodes[1].name, "")} - {
        (frame.nodes[1].name, "")
    } <= set(meter._histories)
    assert 3 == len(meter._histories)


def test_drops_are_those_of_the_interval_most_first(make):
    meter = Meter()
    meter.take(make.sample(0.0, reasons={"no_node": count(10, 1), "forwarded": count(5, 1)}))
    frame = meter.take(
        make.sample(
            2.0,
            reasons={
                "no_node": count(14, 9),
                "forwarded": count(500, 9),
                "malformed": count(100, 9),
                "table_full": count(0, 0),
            },
        )
    )

    assert (Drop("malformed", 50), Drop("no_node", 2)) == frame.drops


def test_what_counts_as_a_drop_is_what_the_balancer_calls_so():
    assert module._NO_DROP == {r.name.lower() for r in Reason if outcome(r) != "dropped"}


def test_a_lost_balancer_leaves_the_last_picture(make):
    meter = Meter()
    meter.lost("no answer")
    assert meter.frame is None

    meter.take(make.sample(nodes=[make.node(11)]))
    meter.lost("no answer")
    assert ("no answer", 1) == (meter.frame.trouble, len(meter.frame.nodes))

    meter.take(make.sample(1.0))
    assert "" == meter.frame.trouble


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "web-3: routable -> down: no report for 5 s"),
        ({"event": "node_draining", "draining": True, "name": ""}, "10.0.0.13 drains"),
        ({"event": "node_weight", "weight": 2.5}, "web-3 has weight 2.5"),
        ({"event": "node_neighbour"}, "web-3 has the next hop nobody knows"),
        (
            {"event": "table_changed", "service": "web", "moved_share": 0.3333},
            "web: new table, 33.3% moved",
        ),
        (
            {"event": "config_refused", "reason": "lb.toml:3: no"},
            "configuration refused: lb.toml:3: no",
        ),
    ],
)
def test_events_in_words(make, changes, text):
    frame = Meter().take(make.sample(events=[make.event | changes]))

    assert text == frame.events[0].text


def test_an_event_of_another_version_is_told_by_its_facts(make):
    events = [
        {"id": "1", "time": "2026-11-25T12:00:00.000Z", "event": "moon_rises", "phase": "full"},
        {"id": "2", "time": "2026-11-25T12:00:01.000Z", "event": "table_changed", "service": "web"},
    ]
    frame = Meter().take(make.sample(events=events))

    assert ["table_changed service=web", "moon_rises phase=full"] == [e.text for e in frame.events]
