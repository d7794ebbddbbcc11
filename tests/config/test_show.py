# SPDX-License-Identifier: Apache-2.0
"""What `galelb check` prints: TOML that means the same, without secrets."""

import json
from ipaddress import ip_address

import tomli
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from galelb.config import BalancerConfig
from galelb.config.option_schema import describe_model, value_text
from galelb.config.redaction import redact
from galelb.config.show import show_config
from galelb.durations import Duration
from galelb.forwarder import Options

DATA = {
    "private_interface": {"net_interface_private": "eth0"},
    "public_interface": {"net_interface_public": "eth1"},
    "node_health": {"checks_timeout": "1m30s"},
    "load_balancer_quorum": {"addresses": [{"ip": "fd00::1", "port": 1}]},
    "nodes": [{"ip": "10.0.0.1", "name": "a"}, {"ip": "10.0.0.2"}],
}


class KeyOptions(Options):
    """Options with all that is special."""

    wait: Duration = 5.0
    """How long."""
    key: str = ""
    key_file: str = ""
    nested: dict[str, str] = Field(default_factory=dict)
    required: int


class Table(Options):
    """An element of an array of tables."""

    wait: Duration = 1.0
    least: Duration | None = None
    name: str = ""


class TableOptions(Options):
    """Options with an array of tables."""

    tables: tuple[Table, ...] = ()
    last: int = 1


def config(**sections):
    return BalancerConfig.model_validate_json(json.dumps(DATA | sections))


def test_what_is_shown_is_read_as_the_same_configuration():
    services = [{"name": "a", "vip": "10.0.0.9", "port": 1, "nodes": ["10.0.0.1"]}]
    shown = show_config(config(services=services))

    assert config(services=services) == config(**tomli.loads(shown))
    assert 'checks_timeout = "1m30s"' in shown


def test_without_services_the_default_one_is_explained():
    shown = show_config(config())

    assert "one TCP service at the address of eth1, port 8080" in shown
    assert config() == config(**tomli.loads(shown))


def test_secrets_are_hidden_and_files_that_hold_them_are_not():
    options = KeyOptions(
        key="hunter2", key_file="/etc/k", nested={"auth_token": "hunter3"}, required=1
    )
    shown = show_config(config().model_copy(update={"plugins": {"x": options}}))

    assert "hunter" not in shown
    assert {
        "wait": "5s",
        "key": "***",
        "key_file": "/etc/k",
        "nested": {"auth_token": "***"},
        "required": 1,
    } == tomli.loads(shown)["plugins"]["x"]


def test_redaction_goes_as_deep_as_the_data():
    data = {"a": [{"api_key": "x", "b": 1}], "passwords": {"eve": "y"}, "token": ""}

    assert {"a": [{"api_key": "***", "b": 1}], "passwords": "***", "token": ""} == redact(data)


@given(
    st.recursive(
        st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=5,
    )
)
def test_values_are_shown_as_toml_reads_them(value):
    assert {"x": value} == tomli.loads(f"x = {value_text(value)}")


def test_options_are_described_in_words():
    described = {one.name: one for one in describe_model(KeyOptions)}

    assert ("duration", '"5s"', "How long.") == (
        described["wait"].type,
        described["wait"].default,
        described["wait"].description,
    )
    assert described["required"].required
    assert '"10.0.0.1"' == value_text(ip_address("10.0.0.1"))


def test_tables_of_a_plugin_are_written_as_tables():
    tables = (Table(wait="500ms", least="1m"), Table(name="b"))
    options = TableOptions(tables=tables, last=2)
    shown = show_config(config().model_copy(update={"plugins": {"x": options}}))

    read = tomli.loads(shown)["plugins"]["x"]
    assert options == TableOptions.model_validate_json(json.dumps(read))
    assert '[[plugins.x.tables]]\nwait = "500ms"\nleast = "1m"' in shown


def test_no_tables_of_a_plugin_are_an_empty_array():
    shown = show_config(config().model_copy(update={"plugins": {"x": TableOptions()}}))

    assert "tables = []\nlast = 1" in shown
