# SPDX-License-Identifier: Apache-2.0
"""The lab builds real networks and leaves nothing behind; stand-ins take the daemons' place."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from galelb.errors import LabError
from galelb.lab import lab as lab_module
from galelb.lab.clients import collect
from galelb.lab.hosts import Host, Plan, Role
from galelb.lab.http_client import Target
from galelb.lab.jobs import Downloads, Queries, Requests
from galelb.lab.lab import build_lab, clean_stale, kill_host, start_host, take_down
from galelb.lab.mounts import mounts_below
from galelb.lab.processes import Process, in_namespaces, is_alive, kill, spawn
from galelb.lab.state import LabState, find_lab, labs, locked, new_spec
from galelb.lab.topology import cut, heal, namespaces_of, nsenter, run_tool

pytestmark = pytest.mark.netns

SERVER = [sys.executable, "-m", "galelb.lab.server", "--name"]


def stand_ins(plan: Plan, host: Host) -> dict[str, list[str]]:
    """Balancers run the application too, so that clients have someone to talk to."""
    del plan
    kinds = {Role.BALANCER: "balancer", Role.NODE: "server"}
    return {kinds[host.role]: [*SERVER, host.name]} if host.role in kinds else {}


@pytest.fixture(autouse=True)
def _without_daemons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_module, "commands", stand_ins)


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for state in labs(tmp_path):
        take_down(state)


def build(run_dir: Path, **values: Any) -> LabState:
    state = build_lab(new_spec(**values), run_dir)
    for host in state.plan.hosts:
        start_host(state, host)
    return state


PROBE = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9), timeout=1)
except ConnectionRefusedError:
    sys.exit(0)
except OSError:
    sys.exit(1)
"""


def reaches(state: LabState, host: str, address: str) -> bool:
    """Whether the other kernel answers; it refuses a port that nobody listens on."""
    namespace = state.plan.host(host).namespace
    probe = [sys.executable, "-c", PROBE, address]
    return subprocess.run(nsenter(namespace, probe), check=False).returncode == 0


def wait_for_server(state: LabState, host: str, port: int = 8080) -> None:
    """Return once something listens on the host."""
    argv = nsenter(state.plan.host(host).namespace, ["ss", "-Hltn", f"sport = :{port}"])
    while not run_tool(argv):
        assert state.running, "the server ended"


def nothing_left(state: LabState) -> bool:
    return (
        namespaces_of(state.spec.prefix) == []
        and not state.running
        and mounts_below(state.plan.directory) == []
        and not state.plan.directory.exists()
        and not state.path.exists()
    )


def test_who_reaches_whom(run_dir: Path) -> None:
    state = build(run_dir, ipv6=True, nodes=2)

    assert reaches(state, "client1", "203.0.113.11")
    assert reaches(state, "client1", "2001:db8:113::11")
    assert reaches(state, "node1", "10.113.0.11")
    assert reaches(state, "node2", "fd00:113::71")
    assert not reaches(state, "client1", "10.113.0.71")


def test_one_armed_hosts_share_one_network(run_dir: Path) -> None:
    state = build(run_dir, nodes=1, one_armed=True)

    assert reaches(state, "client1", "203.0.113.71")
    assert [f"{state.spec.prefix}-pub"] == [network.namespace for network in state.plan.networks]


def test_the_machines_own_network_is_not_touched(run_dir: Path) -> None:
    before = run_tool(["ip", "-o", "link"])
    build(run_dir, nodes=1)

    assert before == run_tool(["ip", "-o", "link"])


def test_offloads_suit_rewritten_packets(run_dir: Path) -> None:
    state = build(run_dir, nodes=1)
    ends = [(state.plan.host("lb1").namespace, "pub0"), (f"{state.spec.prefix}-prv", "lb1")]
    for namespace, device in ends:
        features = run_tool(nsenter(namespace, ["ethtool", "-k", device]))

        assert "tx-checksumming: off" in features
        assert "generic-receive-offload: on" in features


def test_nothing_remains_of_a_lab(run_dir: Path) -> None:
    state = build(run_dir, nodes=1)
    stray = spawn(
        "stray", nsenter(state.plan.host("node1").namespace, ["sleep", "999"]), Path(os.devnull)
    )
    assert mounts_below(state.plan.directory) != []
    take_down(state)

    assert nothing_left(state)
    assert not is_alive(stray)


def test_two_labs_do_not_disturb_each_other(run_dir: Path) -> None:
    first, second = build(run_dir, nodes=1), build(run_dir, nodes=1)
    take_down(first)

    assert nothing_left(first)
    assert reaches(second, "client1", "203.0.113.11")


def test_a_name_is_taken_once(run_dir: Path) -> None:
    build(run_dir, name="twice", nodes=1)

    with pytest.raises(LabError, match="a lab 'twice' exists"):
        build(run_dir, name="twice", nodes=1)
    assert ["twice"] == [state.spec.name for state in labs(run_dir)]


def test_a_failure_while_building_leaves_nothing(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = new_spec()

    def broken(plan: Plan, host: Host) -> dict[Path, str]:
        raise LabError(f"no configuration for {host.name} of {plan.spec.name}")

    monkeypatch.setattr(lab_module, "config_files", broken)
    with pytest.raises(LabError, match="no configuration"):
        build_lab(spec, run_dir)

    assert [] == namespaces_of(spec.prefix)
    assert [] == labs(run_dir)
    assert [] == mounts_below(run_dir)


OWNER = """
    import os, signal
    from pathlib import Path
    from galelb.lab import lab
    from galelb.lab.state import new_spec
    lab.commands = lambda plan, host: {"server": ["sleep", "999"]} if host.config else {}
    state = lab.build_lab(new_spec(nodes=1), Path(RUN_DIR))
    for host in state.plan.hosts:
        lab.start_host(state, host)
    state.kept = KEPT
    state.save()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_owner(run_dir: Path, *, kept: bool) -> LabState:
    program = textwrap.dedent(OWNER).replace("RUN_DIR", repr(str(run_dir)))
    program = program.replace("KEPT", repr(kept))
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert -9 == done.returncode
    return labs(run_dir)[0]


def test_the_next_run_cleans_up_after_a_killed_owner(run_dir: Path) -> None:
    state = killed_owner(run_dir, kept=False)
    assert state.running == {"lb1", "node1"}
    build(run_dir, nodes=1)

    assert nothing_left(state)


def test_a_lab_left_up_on_purpose_outlives_its_owner(run_dir: Path) -> None:
    state = killed_owner(run_dir, kept=True)
    with locked(run_dir):
        assert [] == clean_stale(run_dir)

    assert state.running == {"lb1", "node1"}
    assert state.spec == find_lab(None, run_dir).spec


def test_cutting_and_healing_a_host(run_dir: Path) -> None:
    state = build(run_dir, nodes=1)
    balancer = state.plan.host("lb1")
    for silent in (False, True):
        cut(state.plan, balancer, "public", silent=silent)
        assert not reaches(state, "client1", "203.0.113.11")
        assert reaches(state, "node1", "10.113.0.11")
        heal(state.plan, balancer)
        assert reaches(state, "client1", "203.0.113.11")


def test_killing_and_starting_a_host(run_dir: Path) -> None:
    state = build(run_dir, nodes=1)
    node = state.plan.host("node1")
    with pytest.raises(LabError, match="node1 runs already"):
        start_host(state, node)
    kill_host(state, node)
    assert {"lb1"} == state.running == find_lab(None, run_dir).running
    assert reaches(state, "lb1", "10.113.0.71")
    start_host(state, node)

    assert {"lb1", "node1"} == state.running == find_lab(None, run_dir).running


def test_a_process_with_the_same_id_is_not_ours() -> None:
    mine = spawn("sleep", ["sleep", "999"], Path(os.devnull))
    kill([Process(kind="sleep", pid=mine.pid, start=mine.start - 1)])

    assert is_alive(mine)
    kill([mine])
    assert not is_alive(mine)


def test_processes_are_found_by_their_namespace(run_dir: Path) -> None:
    state = build(run_dir, nodes=1)
    recorded = {process.pid for items in state.processes.values() for process in items}

    assert recorded == {item.pid for item in in_namespaces(namespaces_of(state.spec.prefix))}
    assert [] == in_namespaces(["gale-no-such-namespace"])


async def test_clients_load_from_inside_their_namespace(run_dir: Path) -> None:
    state = build(run_dir, nodes=1, ipv6=True)
    wait_for_server(state, "lb1")
    targets = (Target("203.0.113.11", 8080), Target("2001:db8:113::11", 8080))
    queries = tuple(Target(target.address, 5300) for target in targets)
    results = await collect(
        state.plan.host("client1"),
        [
            Requests(targets=targets, count=20),
            Downloads(targets=targets, size=1 << 20, count=2),
            Queries(targets=queries, count=20),
        ],
    )

    assert [] == [result for result in results if result.error]
    assert {"lb1"} == {result.node for result in results}
    assert 42 == len(results)


async def test_a_vanished_host_is_a_failure_with_a_cause(run_dir: Path) -> None:
    state = build(run_dir, nodes=1)
    cut(state.plan, state.plan.host("lb1"), silent=True)
    job = Requests(targets=(Target("203.0.113.11", 8080),), fresh=1, count=1)
    (result,) = await collect(state.plan.host("client1"), [job])

    assert "connect_timeout" == result.error
