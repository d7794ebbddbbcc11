# SPDX-License-Identifier: Apache-2.0
"""The demo of a group: balancers are lost, cut off and return, and clients notice little."""

import pytest

from galelb.lab.demo import Demo, problems_of
from galelb.lab.hosts import Role
from galelb.lab.session import open_lab
from galelb.lab.state import new_spec
from galelb.lab.tally import EVENTS, Tally

LONGEST_STALL_S = 3.0


@pytest.mark.parametrize("announce", ["arp", "bgp"])
async def test_the_demo_of_a_group_shows_no_unexplained_failure(announce: str) -> None:
    lines: list[str] = []
    async with open_lab(new_spec(balancers=3, announce=announce)) as state:
        tally = Tally(node.name for node in state.plan.of(Role.NODE))
        await Demo(state, tally, lines.append).run()
    result = tally.to_json()

    assert problems_of(result) == [], (result, tally.unexplained, tally.broken, lines)
    assert set(EVENTS) <= set(result)
    assert result["held"]["total"] == 200
    assert result["held"]["longest_stall_s"] < LONGEST_STALL_S
