# SPDX-License-Identifier: Apache-2.0
"""What the agent changes on a node for VIPs whose answers the node sends itself."""

import errno
import json
import socket

import pytest
import trio

from galelb.model import HealthStatus
from galelb.node.health import LocalHealth
from galelb.node.host import NodeHost
from galelb.node.wire import Advice, Setup

pytestmark = pytest.mark.netns

V4, V6 = "192.0.2.80", "2001:db8:80::1"
BOTH = (V4, V6)


def advice(*vips: str, kind: str = "vip_on_lo") -> Advice:
    return Advice(checks_timeout=1, setups=tuple(Setup(kind, vip) for vip in vips), version="1")


def host(tmp_path, *, configure=True, health=None, balancers=("lb1",), not_vips=()) -> NodeHost:
    return NodeHost(
        health or LocalHealth(()),
        configure=configure,
        record=tmp_path / "node.json",
        balancers=balancers,
        not_vips=not_vips,
    )


def state(machine) -> str:
    """Everything that the agent could change: addresses, sysctls."""
    names = machine.call("sysctl", "-a", "-r", r"^net\.ipv4\.conf\..*\.(arp_|rp_)")
    return machine.ip("-brief", "address", "show", "dev", "lo") + names


def sysctl(machine, scope: str, key: str) -> str:
    return machine.call("sysctl", "-n", f"net.ipv4.conf.{scope}.{key}").strip()


@pytest.fixture
def machine(wires):
    """A node with one interface besides lo."""
    one = wires.namespace("node")
    one.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0x")
    one.ip("link", "set", "eth0", "up")
    one.ip("link", "set", "eth0x", "up")
    return one


def run(machine, function):
    """Run `function(nursery)` inside, then cancel what it started."""

    async def main():
        async with trio.open_nursery() as nursery:
            await function(nursery)
            nursery.cancel_scope.cancel()

    machine.trio(main)


def test_vips_come_with_silence_and_go_without_a_trace(machine, tmp_path):
    before = state(machine)
    seen = []

    async def play(nursery):
        agent = host(tmp_path)
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice(*BOTH))
        seen.append(machine.ip("address", "show", "dev", "lo"))
        seen.append([sysctl(machine, s, "arp_ignore") for s in ("all", "eth0")])
        seen.append([sysctl(machine, s, "arp_announce") for s in ("all", "eth0")])
        await agent.leave()

    run(machine, play)

    assert f"{V4}/32" in seen[0]
    assert f"{V6}/128" in seen[0]
    assert [["1", "0"], ["2", "0"]] == seen[1:]
    assert before == state(machine)
    assert [] == list(tmp_path.iterdir())


def test_what_was_there_before_stays(machine, tmp_path):
    machine.ip("address", "add", f"{V4}/32", "dev", "lo")
    machine.call("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=2")
    before = state(machine)

    async def play(nursery):
        agent = host(tmp_path)
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice(*BOTH))
        await agent.leave()

    run(machine, play)

    assert before == state(machine)


def test_what_somebody_changed_meanwhile_stays(machine, tmp_path):
    async def play(nursery):
        agent = host(tmp_path)
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice(V4))
        machine.call("sysctl", "-qw", "net.ipv4.conf.all.arp_announce=1")
        await agent.leave()

    run(machine, play)

    assert "1" == sysctl(machine, "all", "arp_announce")
    assert "0" == sysctl(machine, "all", "arp_ignore")


def test_a_strict_rp_filter_is_loosened_and_restored(machine, tmp_path):
    machine.call("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
    before = state(machine)
    seen = []

    async def play(nursery):
        agent = host(tmp_path)
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice(V4))
        seen.append(sysctl(machine, "eth0", "rp_filter"))
        await agent.leave()

    run(machine, play)

    assert ["2"] == seen
    assert before == state(machine)


def test_after_a_crash_the_next_agent_undoes_what_nobody_wants(machine, tmp_path):
    before = state(machine)
    seen = []

    async def crash(nursery):
        agent = host(tmp_path)
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice(*BOTH))

    async def again(nursery):
        agent = host(tmp_path, balancers=("lb1", "lb2"))
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice())
        seen.append(machine.ip("address", "show", "dev", "lo"))
        await agent.prepare("lb2", advice())

    run(machine, crash)
    run(machine, again)

    assert V4 in seen[0], "lb2 might still want it"
    assert before == state(machine)
    assert [] == list(tmp_path.iterdir())


def test_after_a_crash_the_next_agent_undoes_it_when_it_leaves(machine, tmp_path):
    before = state(machine)

    async def play(nursery):
        first, second = host(tmp_path), host(tmp_path)
        await nursery.start(first.run)
        await first.prepare("lb1", advice(*BOTH))
        await nursery.start(second.run)
        await second.prepare("lb1", advice(*BOTH))
        await second.leave()

    run(machine, play)

    assert before == state(machine)


def test_without_leave_to_configure_a_crashed_agent_s_changes_are_undone(machine, tmp_path):
    before = state(machine)

    async def play(nursery):
        first, second = host(tmp_path), host(tmp_path, configure=False)
        await nursery.start(first.run)
        await first.prepare("lb1", advice(*BOTH))
        await nursery.start(second.run)

    run(machine, play)

    assert before == state(machine)


def test_a_reload_of_the_balancer_takes_vips_away(machine, tmp_path):
    seen = []

    async def play(nursery):
        agent = host(tmp_path)
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice(*BOTH))
        await agent.prepare("lb1", advice(V6))
        seen.append(machine.ip("address", "show", "dev", "lo"))
        await agent.leave()

    run(machine, play)

    assert V4 not in seen[0]
    assert V6 in seen[0]


def test_without_leave_to_configure_it_says_what_to_do(machine, tmp_path, log_output):
    before = state(machine)
    health = LocalHealth(())
    seen = []

    async def play(nursery):
        agent = host(tmp_path, configure=False, health=health)
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice(*BOTH))
        seen.append((health.status, health.message, state(machine)))
        for command in mends(log_output):
            machine.call(*command.split())
        await agent.prepare("lb1", advice(V4))

    run(machine, play)

    status, message, unchanged = seen[0]
    assert (HealthStatus.NOT_SERVING, before) == (status, unchanged)
    assert f"host: {V4} is no address of this machine: ip address add {V4}/32 dev lo" in message
    assert (HealthStatus.SERVING, "") == (health.status, health.message)


def mends(log_output) -> list[str]:
    return [event["mend"] for event in log_output if event["event"] == "host_lacks"]


@pytest.fixture
def log_output():
    import structlog

    with structlog.testing.capture_logs() as events:
        yield events


@pytest.mark.parametrize("vip", ["10.7.7.7", "224.0.0.1", "127.0.0.1", "0.0.0.0", "nonsense", ""])
def test_what_cannot_be_a_vip_is_refused(machine, tmp_path, vip):
    before = state(machine)

    async def play(nursery):
        agent = host(tmp_path, not_vips=("10.7.7.7",))
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice(vip))

    run(machine, play)

    assert before == state(machine)


def test_kinds_that_are_not_known_are_ignored(machine, tmp_path):
    before = state(machine)

    async def play(nursery):
        agent = host(tmp_path)
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice(V4, kind="tunnel"))

    run(machine, play)

    assert before == state(machine)


def test_a_record_that_no_agent_wrote_does_no_harm(machine, tmp_path):
    (tmp_path / "node.json").write_text(json.dumps({"vips": 7}))

    async def play(nursery):
        agent = host(tmp_path)
        await nursery.start(agent.run)
        await agent.leave()

    run(machine, play)


def knock(vip: str) -> int:
    """Connect to a port that nobody listens on; returns why that fails."""
    family = socket.AF_INET6 if ":" in vip else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(10)
        try:
            sock.connect((vip, 9))
        except TimeoutError:
            return errno.ETIMEDOUT
        except OSError as error:
            return error.errno
    return 0


@pytest.mark.parametrize("vip", BOTH)
def test_nobody_on_the_network_hears_of_a_vip(pair, tmp_path, vip):
    client, node = pair
    version = "-6" if ":" in vip else "-4"
    client.ip(version, "route", "add", vip, "dev", "lb0")
    mac = node.mac("node0")

    async def play(nursery):
        agent = host(tmp_path)
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice(vip))
        assert client.thread(lambda: knock(vip)) in (errno.EHOSTUNREACH, errno.ETIMEDOUT)
        assert mac not in client.ip(version, "neigh", "show", vip)
        client.ip(version, "neigh", "replace", vip, "lladdr", mac, "dev", "lb0")
        assert errno.ECONNREFUSED == client.thread(lambda: knock(vip)), "the node has the VIP"
        await agent.leave()

    run(node, play)
