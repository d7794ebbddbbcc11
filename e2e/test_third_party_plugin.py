# SPDX-License-Identifier: Apache-2.0
"""galelb's wheel and that of a third party's forwarder, in an environment without the checkout."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from galelb.lab.ready import wait_unused
from galelb.lab.state import find_lab, new_prefix

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "galelb-sticky"
PLUGIN = "sticky_bridge"
SYSTEM_PYTHON = "/usr/bin/python3"
"""The one that python3-bpfcc is built for; what clients run, too."""
ASK = """
import json, sys, urllib.request
answers = [json.load(urllib.request.urlopen(sys.argv[1], timeout=5)) for _ in range(12)]
print(json.dumps(answers))
"""
CONFIG = """\
[private_interface]
net_interface_private = "lo"

[public_interface]
net_interface_public = "lo"

[forwarding]
plugin = "sticky_bridge"

[plugins.sticky_bridge]
ipv4_prefix = {prefix}

[[services]]
name = "web"
vip = "203.0.113.10"
port = 80
target_port = {port}
"""

Galelb = Callable[..., str]
Run = Callable[..., str]


def copied(source: Path, target: Path) -> Path:
    """Copy a tree without what others' builds and runs left in it."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", ".*")
    if source.is_dir():
        shutil.copytree(source, target, ignore=ignored)
    else:
        shutil.copy(source, target)
    return target


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("third-party")


@pytest.fixture(scope="module")
def installed(built, place: Path, run_outside: Run) -> Path:
    """A new virtual environment with galelb's wheel, the plugin's and what they depend on.

    Returns its folder of commands. Builds leave files behind, hence the copy.
    """
    commands = place / "venv" / "bin"
    run_outside(SYSTEM_PYTHON, "-m", "venv", place / "venv", cwd=place)
    copied(EXAMPLE, place / "sticky")
    wheels = place / "wheels"
    run_outside(commands / "pip", "wheel", "--no-deps", "-w", wheels, place / "sticky", cwd=place)
    wanted = (f"{built.wheel}[testing]", *wheels.glob("galelb_sticky-*.whl"))
    run_outside(commands / "pip", "install", "--quiet", *wanted, cwd=place)
    return commands


@pytest.fixture(scope="module")
def galelb(installed: Path, place: Path, run_outside: Run) -> Galelb:
    def command(*words: str, code: int = 0) -> str:
        return run_outside(installed / "galelb", *words, cwd=place, code=code)

    return command


@pytest.fixture
def lab(galelb: Galelb, place: Path) -> Iterator[Callable[..., dict[str, Any]]]:
    """Bring a lab up with options, and describe it; it is gone after the test."""
    names = []

    def up(*options: str) -> dict[str, Any]:
        names.append(new_prefix())
        galelb("lab", "up", "--name", names[-1], "--plugin", PLUGIN, *options)
        described: dict[str, Any] = json.loads(
            galelb("lab", "status", "--name", names[-1], "--json")
        )
        return described

    yield up
    for name in names:
        galelb("lab", "down", name)


def test_the_plugin_is_shown_with_its_package_and_options(galelb: Galelb) -> None:
    told = json.loads(galelb("plugins", "--json"))["plugins"]

    plugin = next(one for one in told if one["name"] == PLUGIN)
    kind = {"kinds": ["forwarder"], "package": "galelb-sticky", "version": "0.1.0", "error": None}
    assert kind.items() <= plugin.items()
    assert [option["name"] for option in plugin["options"]] == ["ipv4_prefix", "ipv6_prefix"]
    assert [one["name"] for one in told if one["error"]] == []


@pytest.mark.parametrize(
    ("prefix", "port", "code", "expected"),
    [
        (24, 80, 0, "# plugin sticky_bridge: forwarder, from galelb-sticky 0.1.0"),
        (33, 80, 2, "lb.toml:11: plugins.sticky_bridge.ipv4_prefix: must be at most 32, got 33"),
        (24, 81, 2, "sticky_bridge: service web: no port is changed: leave target_port out"),
    ],
)
def test_configurations_are_checked(galelb, tmp_path, prefix, port, code, expected) -> None:
    config = tmp_path / "lb.toml"
    config.write_text(CONFIG.format(prefix=prefix, port=port))

    assert expected in galelb("check", "--config", str(config), code=code)


def ask(galelb: Galelb, lab: dict[str, Any], client: str, version: int = 4) -> set[str]:
    """Return the nodes that a client meets in a dozen connections, each of which sees it."""
    vip = next(one for one in lab["vips"] if (":" in one["address"]) == (version == 6))
    host = f"[{vip['address']}]" if version == 6 else vip["address"]
    url = f"http://{host}:{vip['port']}/"
    words = ("lab", "exec", "--name", lab["name"], client, "--", SYSTEM_PYTHON, "-c", ASK, url)
    answers = json.loads(galelb(*words))
    (own,) = (one["addresses"] for one in lab["hosts"] if one["name"] == client)
    assert {one["client"] for one in answers} <= {text.split("/")[0] for text in own}
    return {one["node"] for one in answers}


def test_a_client_meets_one_node_until_it_dies(galelb: Galelb, lab) -> None:
    here = lab("--clients", "4")
    clients = [host["name"] for host in here["hosts"] if host["role"] == "client"]

    before = {client: ask(galelb, here, client) for client in clients}
    assert {1} == {len(nodes) for nodes in before.values()}
    assert len(set.union(*before.values())) > 1

    (victim,) = before[clients[0]]
    galelb("lab", "kill", "--name", here["name"], victim)
    state = find_lab(here["name"])
    trio.run(wait_unused, state, state.plan.host(victim))
    after = {client: ask(galelb, here, client) for client in clients}

    assert {1} == {len(nodes) for nodes in after.values()}
    assert {victim}.isdisjoint(set.union(*after.values()))
    kept = [client for client in clients if before[client] != {victim}]
    assert {client: before[client] for client in kept} == {c: after[c] for c in kept}


def test_its_options_reach_its_c(galelb: Galelb, lab) -> None:
    """All clients are in one IPv4 network and in one IPv6 network; 128 bits tell them apart."""
    options = ("--option", "ipv4_prefix=24", "--option", "ipv6_prefix=128")
    here = lab("--clients", "4", "--dual", *options)
    clients = [host["name"] for host in here["hosts"] if host["role"] == "client"]

    met = {v: set.union(*(ask(galelb, here, c, v) for c in clients)) for v in (4, 6)}

    assert len(met[4]) == 1
    assert len(met[6]) > 1


BROKEN = {
    "misspelt": (
        "return gale_direct(",
        "return gale_dirrect(",
        "sticky_bridge/sticky_bridge.bpf.c:{line}: implicit declaration of function 'gale_dirrect'",
    ),
    "not promised": (
        "int sticky_bridge_select(",
        "int sticky_bridge_choose(",
        "plugin sticky_bridge: sticky_bridge.bpf.c defines no sticky_bridge_select()",
    ),
    "not safe": (
        "return gale_direct(",
        "if (*(volatile u8 *)gale_data(ctx)) return GALE_NOT_MINE; return gale_direct(",
        " at sticky_bridge/sticky_bridge.bpf.c:{line}: if (*(volatile u8 *)gale_data(ctx))",
    ),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_mistakes_in_its_c_are_told_with_plugin_file_and_line(
    galelb: Galelb, installed: Path, mistake: str
) -> None:
    good, bad, expected = BROKEN[mistake]
    (source,) = installed.parent.glob("lib/*/site-packages/galelb_sticky/sticky_bridge.bpf.c")
    text = source.read_text()
    line = text[: text.index(good)].count("\n") + 1
    source.write_text(text.replace(good, bad))
    try:
        told = galelb("lab", "up", "--plugin", PLUGIN, code=1)
    finally:
        source.write_text(text)

    assert expected.format(line=line) in told


def test_its_own_tests_pass(installed: Path, tmp_path: Path, run_outside: Run) -> None:
    """With the package that is installed: its source is not beside them."""
    copied(EXAMPLE / "tests", tmp_path / "tests")
    shutil.copy(EXAMPLE / "pyproject.toml", tmp_path)

    told = run_outside(installed / "python", "-m", "pytest", "-q", cwd=tmp_path)

    assert " passed" in told
    assert "skipped" not in told
