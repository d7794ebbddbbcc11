# SPDX-License-Identifier: Apache-2.0
"""The section [plugins.l4_nat]: defaults, and errors that say what is allowed."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest
from galelb_plugins.l4_nat.options import L4NatOptions
from pydantic import ValidationError

from galelb.config.option_schema import describe_model


def load(**values: Any) -> L4NatOptions:
    return L4NatOptions.model_validate_json(json.dumps(values))


def test_the_defaults_are_those_of_the_documentation() -> None:
    options = load()

    assert "full_nat" == options.mode
    assert () == options.source_addresses
    assert options.ports is None
    assert (7200.0, 5.0, 60.0) == (
        options.tcp_established_timeout,
        options.tcp_syn_timeout,
        options.tcp_fin_timeout,
    )
    assert (60.0, 120.0, 30.0, 10.0) == (
        options.port_quarantine,
        options.udp_timeout,
        options.udp_unreplied_timeout,
        options.down_node_grace,
    )


def test_every_option_has_a_default_and_a_description() -> None:
    for option in describe_model(L4NatOptions):
        assert not option.required, option.name
        assert option.description, option.name


def test_values_are_read_from_text() -> None:
    options = load(
        mode="dnat",
        source_addresses=["10.0.0.1", "fd00::1"],
        ports="2000-2999",
        udp_timeout="1m30s",
    )

    assert (ip_address("10.0.0.1"), ip_address("fd00::1")) == options.source_addresses
    assert (2000, 2999) == options.ports
    assert 90.0 == options.udp_timeout


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode": "snat"}, "full_nat"),
        ({"ports": "9-1"}, "first <= last"),
        ({"ports": "0-10"}, "1 <= first"),
        ({"ports": "1-70000"}, "65535"),
        ({"ports": "many"}, "first-last"),
        ({"ports": 80}, "ports"),
        ({"source_addresses": "10.0.0.1"}, "array"),
        ({"source_addresses": ["10.0.0"]}, "IPv4 or IPv6"),
        ({"source_addresses": ["10.0.0.1", "10.0.0.1"]}, "twice"),
        ({"source_addresses": ["fe80::1"]}, "cannot be the source"),
        ({"source_addresses": ["224.0.0.1"]}, "one host"),
        ({"tcp_established_timeout": "9h"}, "8h"),
        ({"tcp_syn_timeout": "0s"}, "1s"),
        ({"udp_timeout": 5}, "bad duration"),
        ({"max_flows": 5}, "1024"),
        ({"max_slices": 0}, "1"),
        ({"max_flowz": 5000}, "max_flowz"),
    ],
)
def test_a_bad_value_is_refused_with_what_is_allowed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        load(**values)

    assert message in str(caught.value)
