# SPDX-License-Identifier: Apache-2.0
"""What people see of a demo, on a terminal and elsewhere."""

import io
from pathlib import Path

import pytest
import trio
from rich.console import Console

from galelb.lab.jobs import Result
from galelb.lab.plan import make_plan
from galelb.lab.spec import LabSpec
from galelb.lab.tally import Tally, Window
from galelb.lab.view import DemoView, final_table

PLAN = make_plan(LabSpec(name="t", prefix="gale0000", nodes=2), Path("/run/test-lab"))
RESULT = {
    "requests": 20,
    "failed": 0,
    "per_node": {"node1": 15, "node2": 5},
    "node_kill": {"failed": 2, "recovered_s": 0.25},
    "node_return": {"failed": 0, "recovered_s": None},
    "downloads": {"total": 3, "broken": 0},
}


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=90, highlight=False)


def text(of: Console) -> str:
    assert isinstance(of.file, io.StringIO)
    return of.file.getvalue()


def some_traffic() -> Tally:
    tally = Tally(["node1", "node2"])
    tally.add(Result(kind="request", start=0, end=1, target="t", node="node1"))
    tally.windows.append(Window(event="node_kill", host="node2", start=2))
    return tally


def test_without_a_terminal_events_are_plain_lines() -> None:
    out = console(terminal=False)
    with DemoView(out, PLAN, some_traffic()) as view:
        view.say("node2: killed [kill -9]")

    assert text(out).endswith("  node2: killed [kill -9]\n")
    assert len(text(out).splitlines()) == 1


async def test_on_a_terminal_it_draws_until_cancelled(autojump_clock: trio.abc.Clock) -> None:
    out = console(terminal=True)
    with DemoView(out, PLAN, some_traffic()) as view, trio.move_on_after(3):
        view.say("node2: killed")
        await view.keep_drawing()

    assert "node1" in text(out)
    assert "requests/s" in text(out)
    assert text(out).rstrip().endswith("node2: killed")


async def test_without_a_terminal_drawing_ends_at_once() -> None:
    with DemoView(console(terminal=False), PLAN, some_traffic()) as view:
        await view.keep_drawing()


def test_a_killed_node_is_dead_until_it_recovered() -> None:
    tally = some_traffic()
    assert tally.dead == {"node2"}
    back = Window(event="node_return", host="node2", start=3)
    tally.windows.append(back)
    assert tally.dead == {"node2"}
    back.recovered = 4

    assert tally.dead == frozenset()


def test_the_final_table_compares_shares_with_weights() -> None:
    out = console(terminal=False)
    out.print(final_table(PLAN, RESULT))

    for expected in ("75.0%", "25.0%", "50.0%", "0.25 s", "never", "20 requests, 0 failed"):
        assert expected in text(out)


@pytest.mark.parametrize(("recovered", "verdict"), [(1.0, "all well"), (None, "no recovery")])
def test_the_verdict_says_what_is_wrong(recovered: float | None, verdict: str) -> None:
    out = console(terminal=False)
    out.print(final_table(PLAN, RESULT | {"node_return": {"failed": 0, "recovered_s": recovered}}))

    assert verdict in text(out)


def test_the_end_tells_which_way_answers_came() -> None:
    out = console(terminal=False)
    result = RESULT | {
        "answers_past_balancer": {"answers": 70, "relayed": 2},
        "client_address_seen": {"own": 19, "other": 1},
    }
    out.print(final_table(PLAN, result))
    told = " ".join(text(out).split())

    assert "70 packets of answers, 2 through a balancer" in told
    assert "saw the client's own address 19 times of 20" in told
    assert "2 answers passed a balancer" in told


def test_without_nftables_the_end_says_what_is_not_known() -> None:
    out = console(terminal=False)
    own = {"own": 20, "other": 0}
    out.print(
        final_table(PLAN, RESULT | {"answers_past_balancer": None, "client_address_seen": own})
    )

    assert "nftables is not installed" in " ".join(text(out).split())
