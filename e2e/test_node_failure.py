# SPDX-License-Identifier: Apache-2.0
"""Nodes and balancers die under traffic; only what went through them is hurt."""

import pytest

from galelb.lab.demo import Demo, problems_of
from galelb.lab.hosts import Role
from galelb.lab.session import open_lab
from galelb.lab.state import new_spec
from galelb.lab.tally import Tally

TOLERANCE = 0.25


@pytest.mark.parametrize("balancers", [1, 2])
async def test_the_demo_shows_no_unexplained_failure(balancers: int) -> None:
    lines: list[str] = []
    async with open_lab(new_spec(balancers=balancers)) as state:
        tally = Tally(node.name for node in state.plan.of(Role.NODE))
        await Demo(state, tally, lines.append).run()
    result = tally.to_json()

    assert problems_of(result) == [], (result, tally.unexplained, tally.broken, lines)
    assert result["requests"] >= 300
    assert ("balancer_kill" in result) == (balancers > 1)
    mean = sum(result["per_node"].values()) / 3
    assert all(abs(n - mean) < TOLERANCE * mean for n in result["per_node"].values()), result
