# SPDX-License-Identifier: Apache-2.0
"""The digest covers exactly what the balancers of a group must share."""

import json
from pathlib import Path

import pytest
from pydantic import Field

from galelb.config import BalancerConfig, digest, shared_settings
from galelb.forwarder import Options

BASE = {
    "private_interface": {"net_interface_private": "eth0"},
    "public_interface": {"net_interface_public": "eth1"},
    "services": [{"name": "a", "vip": "10.0.0.1", "port": 80, "nodes": ["10.1.0.2", "10.1.0.1"]}],
}


class NatOptions(Options):
    mode: str = Field("full", json_schema_extra={"shared": True})
    local: str = ""
    token: str = Field("", json_schema_extra={"shared": True})


def config(plugins=None, **sections):
    read = BalancerConfig.model_validate_json(json.dumps(BASE | sections))
    return read.model_copy(update={"plugins": {"nat": plugins or NatOptions()}})


@pytest.mark.parametrize(
    "change",
    [
        {"node_health": {"checks_timeout": "6s"}},
        {"forwarding": {"table_seed": 1}},
        {"services": []},
        {"services": [BASE["services"][0] | {"vip": "10.0.0.2"}]},
        {"services": [BASE["services"][0] | {"scheduler": "ring"}]},
        {"forwarding": {"scheduler": "ring"}},
        {"plugins": NatOptions(mode="dnat")},
    ],
)
def test_what_a_group_shares_changes_the_digest(change):
    assert digest(config()) != digest(config(**change))


@pytest.mark.parametrize(
    "change",
    [
        {"private_interface": {"net_interface_private": "eth9"}},
        {"instance": {"name": "other"}},
        {"forwarding": {"xdp_mode": "generic", "extra_interfaces": ["veth1"]}},
        {"services": [BASE["services"][0] | {"nodes": ["10.1.0.1", "10.1.0.2"]}]},
        {"services": [BASE["services"][0] | {"target_port": 80, "forwarder": "l4_nat"}]},
        {"services": [BASE["services"][0] | {"scheduler": "maglev"}]},
        {"plugins": NatOptions(local="x")},
    ],
)
def test_what_balancers_may_differ_in_does_not(change):
    assert digest(config()) == digest(config(**change))


def test_secrets_are_no_shared_setting():
    settings = shared_settings(config(NatOptions(token="hunter2")))

    assert ["plugins.nat.mode"] == [key for key in settings if key.startswith("plugins")]
    assert "hunter2" not in str(settings)


def test_the_path_of_the_file_does_not_matter():
    moved = config().model_copy(update={"path": Path("/elsewhere")})

    assert digest(config()) == digest(moved)
