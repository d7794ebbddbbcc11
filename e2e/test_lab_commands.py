# SPDX-License-Identifier: Apache-2.0
"""The `galelb lab` commands as a user types them, and what they leave behind: nothing."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from galelb.lab.lab import take_down
from galelb.lab.mounts import mounts_below
from galelb.lab.processes import in_namespaces
from galelb.lab.ready import wait_unused
from galelb.lab.state import LabState, labs, new_spec
from galelb.lab.topology import namespaces_of

LAB = [sys.executable, "-m", "galelb", "lab"]


def run(*arguments: str, code: int = 0) -> str:
    done = subprocess.run([*LAB, *arguments], capture_output=True, text=True, check=False)

    assert code == done.returncode, done.stderr
    return done.stdout


@pytest.fixture
def name() -> Iterator[str]:
    name = f"e2e-{new_spec().prefix}"
    yield name
    for state in labs():
        if state.spec.name == name:
            take_down(state)


def record(name: str) -> LabState:
    return next(state for state in labs() if state.spec.name == name)


def is_gone(state: LabState) -> bool:
    return (
        namespaces_of(state.spec.prefix) == []
        and not state.running
        and mounts_below(state.plan.directory) == []
        and not state.plan.directory.exists()
        and not state.path.exists()
    )


def fetch(name: str, lab: dict[str, Any]) -> str:
    vip = lab["vips"][0]
    url = f"http://{vip['address']}:{vip['port']}/"
    program = f"import urllib.request as r; print(r.urlopen({url!r}, timeout=2).read().decode())"
    return run("exec", "--name", name, "client1", "--", sys.executable, "-c", program)


def test_a_lab_from_up_to_down(name: str) -> None:
    lab = json.loads(run("up", "--name", name, "--nodes", "2", "--json"))
    hosts = {host["name"]: host for host in lab["hosts"]}

    assert {"lb1", "node1", "node2", "client1"} == set(hosts)
    assert all(host["running"] for host in hosts.values())
    assert Path(hosts["lb1"]["config"]).exists()
    assert json.loads(fetch(name, lab))["node"] in {"node1", "node2"}

    run("kill", "--name", name, "node2")
    trio.run(wait_unused, record(name), record(name).plan.host("node2"))
    assert json.loads(fetch(name, lab))["node"] == "node1"
    assert lab["hosts"] != json.loads(run("status", "--name", name, "--json"))["hosts"]

    run("start", "--name", name, "node2")
    run("cut", "--name", name, "client1")
    run("heal", "--name", name, "client1")
    assert json.loads(fetch(name, lab))["node"] in {"node1", "node2"}

    state = record(name)
    run("down", name)
    assert is_gone(state)


def test_mistakes_are_answered_with_what_exists(name: str) -> None:
    run("up", "--name", name, "--nodes", "0", code=2)
    run("exec", "--name", "no-such-lab", "client1", "--", "true", code=1)
    run("demo", "--nodes", "1", code=2)

    assert name not in [state.spec.name for state in labs()]


def started_demo(name: str) -> tuple["subprocess.Popen[str]", LabState]:
    """Start a demo and return once clients send requests."""
    argv = [*LAB, "demo", "--name", name, "--nodes", "2"]
    demo = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    for line in demo.stdout:
        if "clients send" in line:
            return demo, record(name)
    raise AssertionError("the demo ended before it began")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_nothing_remains_of_an_interrupted_demo(
    name: str, number: signal.Signals, code: int
) -> None:
    demo, state = started_demo(name)
    demo.send_signal(number)
    demo.communicate()

    assert code == demo.returncode
    assert is_gone(state)


def test_the_next_run_cleans_up_after_kill_9(name: str) -> None:
    demo, state = started_demo(name)
    demo.kill()
    demo.communicate()
    assert state.running
    assert in_namespaces(namespaces_of(state.spec.prefix)) != []

    run("up", "--name", name, "--nodes", "1")

    assert namespaces_of(state.spec.prefix) == []
    assert not state.running
