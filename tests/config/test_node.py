# SPDX-License-Identifier: Apache-2.0
"""node.toml: balancers by address or name, and checks that fit their type."""

from pathlib import Path

import pytest

from galelb.config.node import load_node_config, split_target
from galelb.config.toml_file import SYSTEM_FOLDER, find_config
from galelb.errors import ConfigError

BASE = '[load_balancer]\naddresses = [ { ip = "192.168.1.2" } ]\n'
CHECK = BASE.replace("{", "{{").replace("}", "}}") + '[[checks]]\nname = "web"\ntype = "{}"\n{}\n'


@pytest.fixture
def load(tmp_path):
    def read(text):
        path = tmp_path / "node.toml"
        path.write_text(text)
        return load_node_config(path)

    return read


def test_the_original_file_is_understood(load):
    config = load(
        '[load_balancer]\naddresses = [ { ip = "192.168.1.2", port = 8082 }, '
        '{ hostname = "lb-0.local", port = 7070 } ]\n'
    )

    assert [("192.168.1.2", 8082), ("lb-0.local", 7070)] == [
        (one.host, one.port) for one in config.load_balancer.addresses
    ]


def test_the_shortest_file_has_the_defaults_of_the_documentation(load):
    config = load(BASE)

    assert 7070 == config.load_balancer.addresses[0].port
    assert ("", None, (), 10.0) == (
        config.node.name,
        config.node.weight,
        config.node.services,
        config.node.drain_timeout,
    )
    assert () == config.checks


@pytest.mark.parametrize(
    ("kind", "keys", "attribute", "value"),
    [
        ("tcp", 'target = "[::1]:80"', "target", "[::1]:80"),
        ("http", 'url = "http://127.0.0.1:8080/health"', "url", "http://127.0.0.1:8080/health"),
        ("exec", 'command = ["true", "-x"]', "command", ("true", "-x")),
    ],
)
def test_a_check_of_every_type(load, kind, keys, attribute, value):
    (check,) = load(CHECK.format(kind, keys)).checks

    assert value == getattr(check, attribute)
    assert (1.0, 1.0, 1, 2) == (check.interval, check.timeout, check.rise, check.fall)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", ":1: the file is empty"),
        ("[node]\nweight = 1\n", ":1: load_balancer: required but missing: add [load_balancer]"),
        ("[load_balancer]\naddresses = []\n", ":2: load_balancer.addresses: must have at least 1"),
        ("[load_balancer]\naddresses = [{}]\n", "addresses[0]: needs either ip or hostname"),
        ('[load_balancer]\naddresses = [{hostname="a b"}]\n', "must be a host name"),
        ('[load_balancer]\naddresses = [{ip="1.2.3"}]\n', "not an IPv4 or IPv6 address"),
        (BASE + "[node]\nweight = -1\n", ":4: node.weight: must be at least 0, got -1"),
        (BASE + "[node]\nwieght = 1\n", '(did you mean "weight"?)'),
        (BASE + "[nodes]\n", '(did you mean "node"?)'),
        (BASE + '[api]\naddress = "0.0.0.0"\n', ":4: api.address: must be the address of one host"),
        (BASE + "[api]\nport = 0\n", ":4: api.port: must be from 1 to 65535, got 0"),
        (BASE + f'[api]\nsocket = "/{"x" * 107}"\n', ":4: api.socket: must not be longer than 107"),
        (CHECK.format("icmp", ""), ":5: checks[0].type: must be 'tcp', 'http' or 'exec'"),
        (CHECK.format("tcp", ""), "checks[0].target: required for a check of type tcp"),
        (CHECK.format("tcp", 'target = "x"'), ':6: checks[0].target: must be "host:port"'),
        (CHECK.format("tcp", 'target = "a:0"'), 'must be "host:port"'),
        (CHECK.format("tcp", 'target = "::1:80"'), 'must be "host:port"'),
        (CHECK.format("tcp", 'target = "a:1"\nurl = "x"'), ":7: checks[0].url: not for a check"),
        (CHECK.format("http", 'url = "ftp://x"'), ":6: checks[0].url: must be like"),
        (CHECK.format("http", 'url = "http://[x/"'), "must be like"),
        (CHECK.format("exec", "command = []"), "checks[0].command: required"),
        (CHECK.format("exec", 'command = [""]'), "must begin with the name of a program"),
        (CHECK.format("exec", 'command = "true"'), "must be an array"),
        (CHECK.format("tcp", 'target = "a:1"\ntimeout = "1ms"'), "must be at least 10ms"),
        (
            CHECK.format("tcp", 'target = "a:1"') * 1
            + CHECK.format("tcp", 'target = "b:1"').removeprefix(BASE),
            ":8: checks[1].name: another check has the name",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(load, text, problem):
    with pytest.raises(ConfigError) as caught:
        load(text)

    assert problem in str(caught.value)


def test_all_mistakes_come_at_once(load):
    text = (
        BASE + '[node]\nweight = -1\nname = "%"\n[[checks]]\nname = "a"\ntype = "tcp"\nrise = 0\n'
    )

    with pytest.raises(ConfigError) as caught:
        load(text)

    assert 3 == len(caught.value.problems)


def test_a_balancer_with_an_empty_half_is_the_other_half(load):
    """As node.toml of the original galeLB has it."""
    config = load(
        "[load_balancer]\n"
        'addresses = [{ hostname = "lb-0.local", ip = "" }, { hostname = "", ip = "10.0.0.1" }]\n'
    )

    assert ["lb-0.local", "10.0.0.1"] == [one.host for one in config.load_balancer.addresses]


def test_the_agents_own_files_lie_beside_its_record(load):
    plain = load(BASE)
    given = load(BASE + '[node]\nstate_file = "/x/n.json"\n[api]\ntoken_file = "/y"\nport = 7\n')

    assert ("/run/galelb/node.sock", "/run/galelb/node.token", None) == (
        str(plain.api_socket),
        str(plain.api_token_file),
        plain.api.port,
    )
    assert ("/x/n.sock", "/y", 7, "127.0.0.1") == (
        str(given.api_socket),
        str(given.api_token_file),
        given.api.port,
        str(given.api.address),
    )


@pytest.mark.parametrize(
    ("target", "expected"),
    [("localhost:80", ("localhost", 80)), ("10.0.0.1:1", ("10.0.0.1", 1)), ("[::1]:9", ("::1", 9))],
)
def test_a_target_is_split_into_host_and_port(target, expected):
    assert expected == split_target(target)


def test_the_file_of_this_folder_is_found_before_that_of_the_system(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("galelb.config.toml_file.SYSTEM_FOLDER", tmp_path / "etc")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "node.toml").touch()

    assert tmp_path / "etc" / "node.toml" == find_config("node.toml")
    (tmp_path / "node.toml").touch()
    assert Path("node.toml") == find_config("node.toml")
    assert Path("/x") == find_config("node.toml", Path("/x"))


def test_no_file_at_all_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match=f"no nope.toml in {tmp_path} or {SYSTEM_FOLDER}"):
        find_config("nope.toml")
