# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from galelb.bpf.compose import Part, compose
from galelb.bpf.layout import MapLayout
from galelb.datapath.flow_maps import (
    MAX_FORMER,
    FlowMaps,
    flow_maps_of,
    remembered,
    unremembered,
    with_former,
)

PINS = Path("/sys/fs/bpf/x")


def layout(name, generation):
    return MapLayout(
        name=name,
        type=2,
        key="unsigned int",
        leaf=["entry", [["key", "unsigned long long"]], "struct"],
        key_size=4,
        leaf_size=8,
        max_entries=generation,
        flags=1024,
        pin=PINS / f"{name}-{generation:012x}",
    )


def maps_of(forwarder, generation, *names):
    maps = {name: layout(name, generation) for name in names}
    return FlowMaps(forwarder=forwarder, layout=f"1 {generation}", maps=maps)


def test_what_is_saved_is_read_again_wherever_the_pins_are_by_then():
    saved = json.loads(json.dumps([maps_of("nat", 7, "nat_flows", "nat_ids").to_saved()]))

    (found,) = remembered(saved, Path("/elsewhere"))

    assert found.forwarder == "nat"
    assert found.maps["nat_ids"].pin == Path("/elsewhere/nat_ids-000000000007")
    assert found.pins == maps_of("nat", 7, "nat_flows", "nat_ids").pins
    assert found.maps["nat_flows"].leaf == layout("nat_flows", 7).leaf


@pytest.mark.parametrize(
    "saved",
    [
        [1],
        [{}],
        [{"forwarder": "nat"}],
        [{"forwarder": "nat", "layout": "1"}],
        [{"forwarder": "nat", "maps": {}}],
        [{"forwarder": "nat", "layout": "1", "maps": []}],
        [{"forwarder": "nat", "layout": "1", "maps": {"a": 1}}],
        [{"forwarder": "nat", "layout": "1", "maps": {"a": {"pin": "../x"}}}],
        [{"forwarder": "nat", "layout": "1", "maps": {"a": {"pin": "x", "colour": 1}}}],
    ],
)
def test_what_is_damaged_is_a_value_error(saved):
    with pytest.raises(ValueError, match=r"flow_maps|pin"):
        remembered(saved, PINS)


def test_the_maps_of_a_generation_are_those_that_were_compiled_in():
    forwarders = {
        "nat": SimpleNamespace(
            flow_maps=("nat_flows4", "nat_flows6"), flow_layout=lambda services, host: "1 1"
        ),
        "bridge": SimpleNamespace(flow_maps=()),
    }
    generation = SimpleNamespace(
        compiled=SimpleNamespace(maps={"nat_flows4": layout("nat_flows4", 1), "gale_nodes": 0}),
        request=SimpleNamespace(forwarders=forwarders, services={}, host=None),
    )

    assert flow_maps_of(generation) == [maps_of("nat", 1, "nat_flows4")]


def test_former_maps_are_kept_in_mind_once_until_programs_were_switched():
    now, before, first = (maps_of("nat", number, "nat_flows") for number in (3, 2, 1))

    assert with_former([now], [before, now, first]) == [now, before, first]
    assert with_former([now], [now]) == [now]


def test_starts_that_die_over_and_over_do_not_pile_up():
    former = [maps_of("nat", number, "nat_flows") for number in range(20)]

    assert len(with_former([maps_of("nat", 99, "nat_flows")], former)) == 1 + MAX_FORMER


@pytest.mark.parametrize(
    ("pin", "found"),
    [
        ("nat_flows-000000000001", ["nat"]),
        ("nat_flows-000000000002", []),
        ("gale_nodes-000000000001", []),
        ("prog-nat_flows-000000000001", []),
    ],
)
def test_tables_that_nobody_remembers_are_noticed(tmp_path, pin, found):
    (tmp_path / pin).touch()

    assert unremembered([maps_of("nat", 2, "nat_flows")], tmp_path) == found


def test_another_layout_is_another_map_for_those_that_it_concerns():
    text = "\n".join(
        f'GALE_MAP("array", u32, u64, {name}, 4, 0)' for name in ("flows", "ids", "other")
    )

    def pins(layout):
        layouts = {"flows": layout, "ids": layout}
        return compose([Part("a.c", text)], {}, PINS, layouts=layouts).maps

    one, same, other = pins("1024"), pins("1024"), pins("2048")

    assert one == same
    assert {name for name in one if one[name] != other[name]} == {"flows", "ids"}
