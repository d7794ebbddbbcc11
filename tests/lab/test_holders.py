# SPDX-License-Identifier: Apache-2.0
"""Who has a VIP, by what `ip` prints on the hosts of a lab."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from galelb.lab import holders as module
from galelb.lab.holders import holders, vips_of
from galelb.lab.hosts import Plan
from galelb.lab.plan import make_plan
from galelb.lab.spec import LabSpec


def group(**values: Any) -> Plan:
    spec = LabSpec(name="t", prefix="gale0000", balancers=2, **values)
    return make_plan(spec, Path("/run/test-lab"))


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], Any]:
    """What `ip` prints: by namespace and the first word after its options."""
    answers: dict[tuple[str, str], Any] = {}

    def run_tool(argv: Sequence[str], text: str = "") -> str:
        answer = answers.get((argv[2], argv[4]))
        return "" if answer is None else json.dumps(answer)

    monkeypatch.setattr(module, "run_tool", run_tool)
    return answers


def test_without_a_router_who_has_the_address_has_the_vip(printed: Any) -> None:
    plan = group()
    first, second = (vip.address for vip in plan.vips)
    own, vip = {"local": "203.0.113.11"}, {"local": second}
    printed["gale0000-lb1", "address"] = [{"ifname": "lo"}, {"addr_info": [own, vip]}]
    held = holders(plan)

    assert {first: frozenset(), second: frozenset({"lb1"})} == held
    assert {second} == vips_of(held, plan.host("lb1"))
    assert frozenset() == vips_of(held, plan.host("lb2"))


def test_with_a_router_its_routes_tell(printed: Any) -> None:
    plan = group(announce="bgp", ipv6=True)
    four, six, other_four, other_six = (vip.address for vip in plan.vips)
    hops = [{"gateway": "203.0.113.11"}, {"gateway": "203.0.113.12"}]
    printed["gale0000-router", "-4"] = [
        {"dst": four, "nexthops": hops},
        {"dst": other_four, "gateway": "203.0.113.12"},
        {"dst": "192.0.2.7", "gateway": "203.0.113.99"},
    ]
    printed["gale0000-router", "-6"] = [{"dst": six, "gateway": "2001:db8:113::11"}]

    assert {
        four: {"lb1", "lb2"},
        six: {"lb1"},
        other_four: {"lb2"},
        other_six: set(),
    } == holders(plan)
