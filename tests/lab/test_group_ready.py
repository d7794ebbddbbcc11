# SPDX-License-Identifier: Apache-2.0
"""When the balancers of a lab are one group, by what they tell."""

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from galelb.errors import LabError
from galelb.lab import group_ready as module
from galelb.lab.group_ready import group_state, unfinished_group, wait_group
from galelb.lab.hosts import Host, Plan
from galelb.lab.http_client import FetchError
from galelb.lab.plan import make_plan
from galelb.lab.spec import LabSpec

WHOLE = {"standing": "quorate", "alive": 3, "ready": True, "tables_digest": "a"}


@attrs.define
class FakeState:
    """A lab of which some balancers run."""

    plan: Plan
    running: set[str]


@pytest.fixture
def state() -> FakeState:
    spec = LabSpec(name="t", prefix="gale0000", balancers=3)
    return FakeState(make_plan(spec, Path("/run/test-lab")), {"lb1", "lb2", "lb3", "node1"})


@pytest.fixture
def told(state: FakeState, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What each balancer tells of its group; None = it does not answer."""
    told: dict[str, Any] = {name: dict(WHOLE) for name in state.running - {"node1"}}

    async def peers(balancer: Host) -> dict[str, Any]:
        if told[balancer.name] is None:
            raise FetchError("refused")
        return {"group": told[balancer.name], "peers": [{"name": "lb2", "alive": True}]}

    async def find_holders(plan: Plan) -> dict[str, frozenset[str]]:
        return told.get("held", {"203.0.113.191": frozenset({"lb1"})})

    monkeypatch.setattr(module, "peers", peers)
    monkeypatch.setattr(module, "find_holders", find_holders)
    return told


async def test_a_whole_group_lacks_nothing(state: Any, told: Any) -> None:
    assert [] == await unfinished_group(state)


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"standing": "forming"}, "lb2 is forming"),
        ({"alive": 2}, "lb2 sees 2 of 3 balancers"),
        ({"ready": False}, "lb2 may not have addresses yet"),
        ({"tables_digest": "b"}, "the balancers' tables differ"),
    ],
)
async def test_what_is_missing_is_named(state: Any, told: Any, change: Any, missing: str) -> None:
    told["lb2"] |= change

    assert [missing] == await unfinished_group(state)


async def test_one_that_does_not_answer_or_has_no_group(state: Any, told: Any) -> None:
    told["lb1"], told["lb3"] = None, {}
    missing = await unfinished_group(state)

    assert ["lb1 does not answer (refused)", "lb3 is in no group"] == missing
    assert "does not answer (refused)" == await group_state(state.plan.host("lb1"))
    assert "quorate, ready: True, sees lb2" == await group_state(state.plan.host("lb2"))


async def test_a_vip_without_a_balancer(state: Any, told: Any) -> None:
    told["held"] = {"203.0.113.191": frozenset(), "203.0.113.192": frozenset({"lb1"})}

    assert ["nobody has 203.0.113.191"] == await unfinished_group(state)
    state.running.remove("node1")
    assert [] == await unfinished_group(state), "without nodes nobody announces VIPs"


async def test_those_that_are_too_few_are_asked_nothing(state: Any, told: Any) -> None:
    state.running = {"lb1"}
    told["lb1"]["standing"] = "cut off"

    assert [] == await unfinished_group(state)
    state.running = {"lb1", "lb2"}
    assert [] != await unfinished_group(state)


async def test_what_is_missing_when_the_time_is_over(
    state: Any, told: Any, autojump_clock: trio.abc.Clock
) -> None:
    homes = {"203.0.113.191": frozenset({"lb2"})}
    with pytest.raises(LabError, match=r"203\.0\.113\.191 is at lb1, not at lb2"):
        await wait_group(state, homes)
    told["held"] = homes
    await wait_group(state, homes)
