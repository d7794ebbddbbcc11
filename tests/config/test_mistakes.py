# SPDX-License-Identifier: Apache-2.0
"""lb.toml: every mistake is a line that says what and where, all of them at once."""

import os

import pytest

from galelb.config import load_balancer_config
from galelb.errors import ConfigError

INTERFACES = """\
[private_interface]
net_interface_private = "eth0"
[public_interface]
net_interface_public = "eth1"
"""
BASE = INTERFACES + '[forwarding]\nplugin = "nat"\n[node_health]\nsources = ["push"]\n'
SERVICE = '[[services]]\nname = "{}"\nvip = "{}"\nport = {}\n'
MISTAKES = {
    "wrong type": (BASE + "[instance]\nname = 5\n", [":10: instance.name: must be text in quotes"]),
    "unknown key": (
        BASE + 'scheduler = "x"\n[forwarding.sub]\n',
        [":10: forwarding.sub: unknown key", ':9: node_health.scheduler: unknown key "scheduler"'],
    ),
    "unknown section": (
        BASE + "[forwardin]\n",
        [':9: forwardin: unknown section "forwardin" (did'],
    ),
    "bad duration": (BASE + 'checks_timeout = "5x"\n', [":9: node_health.checks_timeout: bad dur"]),
    "short timeout": (BASE + 'checks_timeout = "999ms"\n', ["must be at least 1s, got '999ms'"]),
    "port 0": (
        BASE.replace("[public", "api_port = 0\n[public"),
        [":3: private_interface.api_port"],
    ),
    "port 70000": (
        BASE.replace("[public", "api_port = 70000\n[public"),
        ["must be from 1 to 65535, got 70000"],
    ),
    "missing interface": (
        "[private_interface]\n" + BASE.split("\n", 2)[2],
        [":1: private_interface"],
    ),
    "empty file": (
        "",
        [":1: the file is empty", ":1: private_interface: required but missing: add"],
    ),
    "only a comment": ("# hello\n", [":1: the file is empty"]),
    "same service": (
        BASE + SERVICE.format("a", "10.0.0.1", 80) + SERVICE.format("b", "10.0.0.1", 80),
        [":13: services[1]: services[0] has the same VIP"],
    ),
    "same name": (
        BASE + SERVICE.format("a", "10.0.0.1", 80) + SERVICE.format("a", "10.0.0.1", 81),
        [":14: services[1].name: services[0] has this name"],
    ),
    "IPv6 where the forwarder cannot": (
        BASE + SERVICE.format("a", "fd00::1", 80) + 'forwarder = "old_nat"\n',
        [":11: services[0].vip: the forwarder old_nat cannot carry IPv6"],
    ),
    "a node of another family than the VIP": (
        BASE + SERVICE.format("a", "10.0.0.1", 80) + 'nodes = ["10.0.0.9", "fd00::9"]\n',
        [":13: services[0].nodes[1]: fd00::9 cannot serve the VIP 10.0.0.1: with these settings"],
    ),
    "tc where the forwarder cannot": (
        BASE.replace('"nat"', '"old_nat"\nxdp_mode = "tc"'),
        [":7: forwarding.xdp_mode"],
    ),
    "unknown forwarder": (
        BASE.replace('"nat"', '"nta"'),
        ['no such forwarder (did you mean "nat"?)'],
    ),
    "unknown scheduler": (
        BASE.replace('"nat"', '"nat"\nscheduler = "turn"'),
        [':7: forwarding.scheduler: plugin turn: no such scheduler (did you mean "turns"?)'],
    ),
    "unknown scheduler of a service": (
        BASE + SERVICE.format("a", "10.0.0.1", 80) + 'scheduler = "maglef"\n',
        [':13: services[0].scheduler: plugin maglef: no such scheduler (did you mean "maglev"?)'],
    ),
    "options of a service's scheduler": (
        BASE
        + SERVICE.format("a", "10.0.0.1", 80)
        + 'scheduler = "turns"\n[plugins.turns]\nturn = 1\n',
        [':15: plugins.turns.turn: unknown key "turn" (did you mean "turns"?)'],
    ),
    "a forwarder as scheduler": (
        BASE.replace('"nat"', '"nat"\nscheduler = "nat"'),
        ["is a forwarder, not a scheduler"],
    ),
    "a scheduler as forwarder": (
        BASE.replace('"nat"', '"maglev"'),
        ["is a scheduler, not a forwarder"],
    ),
    "unknown source": (
        BASE.replace('"push"', '"pusch"'),
        [":8: node_health.sources[0]: plugin pusch"],
    ),
    "same node": (BASE + '[[nodes]]\nip="10.0.0.1"\n' * 2, [":12: nodes[1].ip: nodes[0] has this"]),
    "a node that is a VIP": (
        BASE + SERVICE.format("a", "10.0.0.1", 80) + '[[nodes]]\nip="10.0.0.1"\n',
        [":14: nodes[0].ip: is the VIP of services[0]"],
    ),
    "node without colons": (BASE + '[[nodes]]\nip="10.0.0.1"\nmac="x"\n', [":11: nodes[0].mac"]),
    "a group address as mac": (
        BASE + '[[nodes]]\nip="10.0.0.1"\nmac="01:00:5e:00:00:01"\n',
        ["not a group"],
    ),
    "same peer": (
        BASE + '[load_balancer_quorum]\naddresses=[{ip="10.0.0.1"},\n{ip="10.0.0.1"}]\n',
        [":11: load_balancer_quorum.addresses[1]: the same balancer as addresses[0]"],
    ),
    "same port": (
        BASE.replace("[public", "api_port = 7070\n[public"),
        [":3: private_interface.api_port: port 7070 is used by node_port already"],
    ),
    "clients on a private port": (
        BASE.replace("eth1", "eth0").replace("[forw", "clients_port = 5555\n[forw"),
        [":5: public_interface.clients_port: port 5555 of the same interface"],
    ),
    "not a prime": (BASE.replace('"nat"', '"nat"\ntable_size = 65536'), ["the next one is 65537"]),
    "xdp mode": (BASE.replace('"nat"', '"nat"\nxdp_mode = "nativ"'), ['(did you mean "native"?)']),
    "address": (BASE + SERVICE.format("a", "10.0.0.300", 80), ["not an IPv4 or IPv6 address, got"]),
    "loopback VIP": (BASE + SERVICE.format("a", "127.0.0.1", 80), ["loopback"]),
    "multicast VIP": (
        BASE + SERVICE.format("a", "224.0.0.1", 80),
        ["must be the address of one host"],
    ),
    "options": (
        BASE + "[plugins.nat]\nmoed = 1\n",
        [':10: plugins.nat.moed: unknown key "moed" (did'],
    ),
    "section of an unknown plugin": (
        BASE + "[plugins.nta]\n",
        [":9: plugins.nta: plugin nta: no such"],
    ),
    "plugins as a value": (
        "plugins = 1\n" + BASE,
        [":1: plugins: must hold one section per plugin"],
    ),
    "services as a table": (BASE + "[services]\n", ["write [[services]]"]),
    "a required option": (
        BASE + '[load_balancer_quorum]\ntransport = "gossip"\n',
        ["plugins.gossip.key_file: required but missing"],
    ),
    "the transport's own check": (
        BASE + '[load_balancer_quorum]\ntransport = "gossip"\naddresses = [{ ip = "10.0.0.9" }]\n'
        '[plugins.gossip]\nkey_file = "/k"\n',
        [":10: load_balancer_quorum.transport: gossip: 10.0.0.9 is odd"],
    ),
    "the forwarder's own check": (BASE + '[plugins.nat]\nmode = "odd"\n', ["nat: mode odd is odd"]),
    "a validator that breaks": (
        BASE + "[plugins.fragile]\nx = 1\n",
        ["cannot be validated: KeyError"],
    ),
    "a date": (
        BASE + "checks_timeout = 2024-01-01\n",
        [":9: node_health.checks_timeout: a date is"],
    ),
    "syntax": (BASE + "x = \n", [":9:5: not valid TOML: "]),
    "key twice": (BASE + "sources = []\n", [":9:"]),
    "invalid UTF-8": (BASE.encode() + b"# \xff\n", [":9: not valid UTF-8: byte 0xff"]),
    "binary": (b"\x00\x01", ["not valid TOML"]),
    "a relative folder": (BASE + '[instance]\nrun_dir = "x"\n', ["must be an absolute path"]),
    "deep": ("a = " + "[" * 60 + "]" * 60, ["nested more than 32 levels"]),
    "very deep": ("a = " + "[" * 9000 + "]" * 9000, ["nested"]),
    "deep keys": (".".join("a" * 5000) + " = 1", ["nested"]),
    "huge": ("#" * (1 << 20) + "\n", ["longer than 1048576 bytes"]),
}


@pytest.mark.parametrize(("text", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_with_its_place(problems, text, expected):
    found = problems(text)

    for part in expected:
        assert any(part in problem for problem in found), "\n".join(found)


def test_all_mistakes_come_at_once_in_the_order_of_the_file(problems):
    text = (
        BASE.replace("[public", "node_port = 0\n[public")
        + SERVICE.format("a", "10.0.0.1", 80)
        + SERVICE.format("a", "10.0.0.1", 0)
        + SERVICE.format("b", "10.0.0.1", 80)
        + "[plugins.nat]\nmode = 3\n"
    )

    found = problems(text)

    assert [":3: ", ":17: ", ":18: ", ":23: "] == [p[: p.index(" ") + 1] for p in found], found


def test_a_secret_never_shows_in_a_message(problems):
    found = problems(BASE + '[plugins.nat]\napi_token = "hunter2-hunter2"\n')

    assert ["must not be longer"] == [p[p.index("must") :][:18] for p in found]
    assert "hunter2" not in "".join(found)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("absent.toml", "no such file"),
        (".", "is a folder"),
        ("fifo", "not a regular file"),
        ("nul\0", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path, plugins, name, text):
    os.mkfifo(tmp_path / "fifo")

    with pytest.raises(ConfigError, match=text):
        load_balancer_config(tmp_path / name, plugins)


ODD = [
    "-1",
    "0",
    "99999999999999999999",
    "1.5",
    "nan",
    "inf",
    "true",
    '""',
    '"\\u0000"',
    '"\u00e9"',
]
ODD += ["[]", "[[]]", "{}", "[{}]", "{ a = 1 }", "1979-05-27", "07:32:00", "'x'", '[1, "a"]']


def problems_of(load, text):
    try:
        load(text)
    except ConfigError as error:
        return error.problems
    return []


@pytest.mark.parametrize("odd", ODD)
def test_any_value_anywhere_is_fine_or_a_problem_at_its_line(load, full, odd):
    lines = full.splitlines()
    for number, line in enumerate(lines):
        key, equals, _ = line.partition(" = ")
        if not equals:
            continue
        text = "\n".join([*lines[:number], f"{key} = {odd}", *lines[number + 1 :]])
        places = [problem.split(":")[1] for problem in problems_of(load, text)]
        assert not places or str(number + 1) in places
