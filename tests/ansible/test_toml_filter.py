# SPDX-License-Identifier: Apache-2.0
"""The filter that writes lb.toml and node.toml: what is read back is what was given."""

import datetime as dt
import importlib.util
from pathlib import Path

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

FILE = Path(__file__).parents[2] / "ansible" / "filter_plugins" / "galelb_toml.py"


def load_filter():
    spec = importlib.util.spec_from_file_location("galelb_toml", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FilterModule().filters()["galelb_toml"]


to_toml = load_filter()

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    text,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(text, inner, max_size=4)),
    max_leaves=20,
)


@given(st.dictionaries(text, values, max_size=6))
def test_what_is_read_back_is_what_was_given(config):
    assert config == tomli.loads(to_toml(config))


def test_sections_and_arrays_of_tables_are_written_as_people_write_them():
    config = {
        "load_balancer_quorum": {"name": "lb-0", "addresses": [{"ip": "10.0.0.1"}]},
        "services": [{"name": "web", "port": 80}],
        "plugins": {"l4_nat": {"mode": "dnat"}},
    }

    assert to_toml(config) == (
        '[load_balancer_quorum]\nname = "lb-0"\n\n'
        '[[load_balancer_quorum.addresses]]\nip = "10.0.0.1"\n\n'
        '[[services]]\nname = "web"\nport = 80\n\n'
        '[plugins]\n\n[plugins.l4_nat]\nmode = "dnat"\n'
    )


def test_null_takes_a_key_or_a_section_away():
    assert tomli.loads(to_toml({"a": {"b": None, "c": 1}, "d": None})) == {"a": {"c": 1}}


@pytest.mark.parametrize("value", [dt.date(2026, 1, 1), float("nan"), [None], {1, 2}])
def test_a_value_that_cannot_be_written_is_named(value):
    with pytest.raises(ValueError, match=r"node\.weight"):
        to_toml({"node": {"weight": value}})
