# SPDX-License-Identifier: Apache-2.0
"""The command line of the lab, as far as it goes without building one."""

from typing import Any

import click
import pytest
from click.testing import CliRunner

from galelb.errors import ConfigError, LabError
from galelb.lab.command import lab_group
from galelb.lab.options import make_spec
from galelb.lab.state import LabState, find_lab, new_spec

DEFAULTS: dict[str, Any] = {
    "name": None,
    "weights": None,
    "node_family": None,
    "ipv6": False,
    "dual": False,
    "options": (),
}


def test_every_command_has_help() -> None:
    for name in ("up", "down", "demo", "status", "exec", "load", "kill", "start", "cut", "heal"):
        result = CliRunner().invoke(lab_group, [name, "--help"])

        assert (name, 0) == (name, result.exit_code)
        assert "Usage:" in result.output


def test_the_default_lab() -> None:
    spec = make_spec(**DEFAULTS)

    assert (spec.name, spec.ipv4, spec.ipv6) == (spec.prefix, True, False)


def test_families() -> None:
    only6 = make_spec(**DEFAULTS | {"ipv6": True})
    dual = make_spec(**DEFAULTS | {"dual": True})

    assert (only6.ipv4, only6.ipv6, dual.ipv4, dual.ipv6) == (False, True, True, True)
    with pytest.raises(click.UsageError):
        make_spec(**DEFAULTS | {"ipv6": True, "dual": True})


def test_the_family_of_nodes() -> None:
    spec = make_spec(**DEFAULTS | {"plugin": "l3_route", "ipv6": True, "node_family": "ipv4"})

    assert (spec.ipv4, spec.ipv6, spec.node_family) == (False, True, "ipv4")


def test_no_option_of_a_lab_is_needed() -> None:
    """click checks defaults too: one that no choice has would make every command fail."""
    result = CliRunner().invoke(lab_group, ["demo", "--nodes", "1"])

    assert isinstance(result.exception, ConfigError)
    assert "the demo kills one" in str(result.exception)


def test_options_of_the_plugin() -> None:
    spec = make_spec(**DEFAULTS | {"options": ("mode=dnat", "size=5")})

    assert spec.options == (("mode", '"dnat"'), ("size", "5"))


@pytest.mark.parametrize(
    "bad", [{"weights": "1,x,2"}, {"weights": "1,2"}, {"options": ("mode",)}, {"nodes": 51}]
)
def test_bad_values_are_configuration_errors(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="lab: "):
        make_spec(**DEFAULTS | bad)


def test_without_a_lab_the_way_to_one_is_shown(tmp_path: Any) -> None:
    with pytest.raises(LabError, match="galelb lab up"):
        find_lab(None, tmp_path)


def test_with_several_labs_one_must_be_named(tmp_path: Any) -> None:
    for name in ("one", "two"):
        LabState.new(new_spec(name), tmp_path).save()

    assert find_lab("two", tmp_path).spec.name == "two"
    with pytest.raises(LabError, match="which lab"):
        find_lab(None, tmp_path)
    with pytest.raises(LabError, match="no lab 'three'; labs: one, two"):
        find_lab("three", tmp_path)


def test_another_version_s_lab_is_in_nobody_s_way(tmp_path: Any) -> None:
    LabState.new(new_spec("ours"), tmp_path).save()
    (tmp_path / "theirs.json").write_text("{}")

    assert find_lab("ours", tmp_path).spec.name == "ours"
    with pytest.raises(LabError, match="not a lab of this version"):
        find_lab("theirs", tmp_path)


def test_a_damaged_record_says_what_to_do(tmp_path: Any) -> None:
    (tmp_path / "old.json").write_text('{"name": "old"}')

    with pytest.raises(LabError, match="ip netns delete"):
        find_lab(None, tmp_path)


@pytest.mark.parametrize("bad", [["--every", "5"], ["--every", "0s"], ["--connections", "10001"]])
def test_bad_loads_are_answered_at_once(bad: list[str]) -> None:
    result = CliRunner().invoke(lab_group, ["load", *bad])

    assert 2 == result.exit_code, result.output
    assert bad[0] in result.output
