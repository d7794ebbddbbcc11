# SPDX-License-Identifier: Apache-2.0
"""The picture: what it shows, and that it fits whatever the size."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from galelb.top.meter import Meter
from galelb.top.view import ASCII, BLOCKS, draw, scaled, sparkline


def lines(frame, width=80, height=None, levels=BLOCKS):
    console = Console(width=width, height=height or 200, highlight=False, color_system=None)
    with console.capture() as capture:
        console.print(draw(frame, width, height, levels))
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.fixture
def frame(make):
    """Two samples of two services and three nodes, one of them dead."""
    meter = Meter()
    for at in (0, 1):
        frame = meter.take(
            make.sample(
                at,
                [
                    make.node(11, 12_345 * at),
                    make.node(12, 400 * at, draining=True, takes_new_flows=False),
                    make.node(13, state="down", takes_new_flows=False, effective_weight=0),
                ],
                [
                    make.service("web", 12_745 * at),
                    make.service("dns", 0, vip="2001:db8::53", protocol="udp", routable_nodes=0),
                ],
                [make.event],
                reasons={"no_node": {"packets": 17 * at, "bytes": 0}},
            )
        )
    return frame


def test_the_picture_at_80_by_24(frame):
    shown = lines(frame, 80, 24)

    time = shown[-1][:8]
    assert re.fullmatch(r"\d\d:\d\d:\d\d", time)
    assert [
        "Forwarding",
        "services 1/2, nodes 1/3, flows 1,234            galelb 0.1.0, default, up 2h 14m",
        "12.7k/s packets, 10.2Mbit/s                                event loop lag 2.1 ms",
        "dropped: no_node 17/s",
        "",
        "SERVICE  ADDRESS                NODES    PACKETS         BITS",
        "web      192.0.2.10:80/tcp          2    12.7k/s   10.2Mbit/s                  █",
        "dns      [2001:db8::53]:80/udp      0        0/s       0bit/s                  ▁",
        "",
        "NODE   STATE        WEIGHT    PACKETS         BITS",
        "web-1  routable          1    12.3k/s    9.9Mbit/s                             █",
        "web-2  draining          1      400/s    320kbit/s                             █",
        "web-3  down              0        0/s       0bit/s                             ▁",
        "",
        f"{time}  web-3: routable -> down: no report for 5 s",
    ] == shown


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 12), (20, 5), (200, 60), (80, 1)])
def test_it_fits(make, width, height):
    meter = Meter()
    for at in (0, 1):
        frame = meter.take(
            make.sample(
                at,
                [make.node(n, at * n) for n in range(10, 210)],
                [make.service(f"a-rather-long-name-{n}") for n in range(30)],
                [make.event] * 50,
                reasons={f"reason_{n}": {"packets": at, "bytes": 0} for n in range(20)},
            )
        )
    shown = lines(frame, width, height)

    assert len(shown) <= height
    assert all(len(line) <= width for line in shown)
    if height >= 24:
        assert any(re.fullmatch(r"and \d+ more nodes", line) for line in shown)
        assert any(re.fullmatch(r"and \d+ more services", line) for line in shown)
        assert len([line for line in shown if "->" in line]) >= 3


def test_when_not_all_nodes_fit_those_in_trouble_and_the_busiest_are_shown(make):
    meter = Meter()
    for at in (0, 1):
        nodes = [make.node(n, at * n) for n in range(11, 60)]
        nodes[20] = make.node(31, state="down", takes_new_flows=False)
        frame = meter.take(make.sample(at, nodes, [make.service()]))
    shown = [line.split()[0] for line in lines(frame, 80, 16) if line.startswith("web-")]

    assert ["web-21", "web-49", "web-48"] == shown[:3]


def test_no_nodes_is_said(make):
    shown = lines(Meter().take(make.sample(services=[make.service(routable_nodes=0)])))

    assert "none is configured, and none has reported" in shown


@pytest.mark.parametrize(
    ("status", "first"),
    [
        ({}, "Forwarding"),
        ({"ready": False, "not_ready_reason": "no node"}, "NOT forwarding: no node"),
    ],
)
def test_the_first_line_says_whether_it_forwards(make, status, first):
    assert first == lines(Meter().take(make.sample(**status)))[0]


def test_a_balancer_that_is_gone_is_said_to_be(make):
    meter = Meter()
    meter.take(make.sample(nodes=[make.node(11)]))
    meter.lost("nobody listens")
    shown = lines(meter.frame)

    assert "No answer, trying again: nobody listens" == shown[0]
    assert any(line.startswith("web-1") for line in shown)


def test_what_nodes_call_themselves_cannot_steer_the_terminal(make):
    evil = make.node(11, name="a\x1b[2J\nb", state="down\x07")
    shown = "\n".join(lines(Meter().take(make.sample(nodes=[evil]))))

    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "a?[2J?b" in shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.2"),
        (7, "7"),
        (99.94, "99.9"),
        (999.4, "999"),
        (999.5, "1.0k"),
        (12_345, "12.3k"),
        (1e6, "1.0M"),
        (1e21, "1000000P"),
    ],
)
def test_numbers(value, text):
    assert text == scaled(value)


@pytest.mark.parametrize(
    ("values", "width", "text"),
    [
        ([], 4, "    "),
        ([None, 0, 7, 14], 4, " ▁▅█"),
        ([1, 2, 3, 4], 2, "▆█"),
        ([0, 0], 3, " ▁▁"),
        ([1, 1_000_000], 2, "▂█"),
        ([5], 0, ""),
    ],
)
def test_sparklines(values, width, text):
    assert text == sparkline(values, width)


@given(st.lists(st.none() | st.floats(0, 1e15), max_size=200), st.integers(0, 100))
def test_sparklines_always_fit(values, width):
    line = sparkline(values, width, ASCII)

    assert width == len(line)
    assert set(line) <= set(ASCII + " ")


def test_terminals_without_unicode_get_ascii(frame):
    assert all(line.isascii() for line in lines(frame, levels=ASCII))
