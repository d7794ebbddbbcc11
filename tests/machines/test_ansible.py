# SPDX-License-Identifier: Apache-2.0
"""The playbooks on fresh machines: from nothing to a group that forwards, and back to nothing."""

import json

import pytest

from e2e.hosts.traffic import ask, traffic
from galelb.lab.http_client import Target
from tests.machines.ansible import NAMES, VIP, WEB, Neighbour, main_pid

pytestmark = pytest.mark.e2e

LEFT = ["/etc/galelb", "/opt/galelb", "/opt/galelb-versions", "/usr/local/bin/galelb"]
LEFT += ["/run/galelb", "/var/lib/galelb", "/var/cache/galelb"]


@pytest.mark.timeout(1200)
async def test_machines_are_brought_up_changed_restarted_and_cleaned(deployment):
    client = Neighbour(deployment.found)
    untouched = {name: snapshot(deployment.found[name]) for name in NAMES}
    await deployment.play("example_servers.yml", "site.yml")
    await every_balancer_forwards(deployment, client)

    await nothing_changes_the_second_time(deployment)
    await an_invalid_configuration_stops_the_play(deployment)
    await a_new_service_is_reloaded_under_load(deployment, client)
    await a_rolling_restart_fails_no_request(deployment, client)

    await deployment.play("uninstall.yml")
    for name in NAMES:
        assert untouched[name] == snapshot(deployment.found[name])


async def every_balancer_forwards(deployment, client):
    found = await ask(client, [WEB], 50)

    assert {"node-0": 50} == found.nodes()
    for name in ("lb-0", "lb-1"):
        machine = deployment.found[name]
        peers = json.loads(machine.run("galelb", "peers", "--json"))
        assert [True] == [peer["alive"] for peer in peers["peers"]]
        assert json.loads(machine.run("galelb", "status", "--json"))["ready"]
        assert "600 root" == machine.run("stat", "-c", "%a %U", "/etc/galelb/group.key").strip()


async def nothing_changes_the_second_time(deployment):
    pids = {name: main_pid(deployment.found[name]) for name in NAMES}

    played = await deployment.play("example_servers.yml", "site.yml")

    assert dict.fromkeys(NAMES, 0) == played.changed
    assert pids == {name: main_pid(deployment.found[name]) for name in NAMES}


async def an_invalid_configuration_stops_the_play(deployment):
    """At the first balancer, with the line and the hint; nobody has a new file."""
    before = configurations(deployment)
    wrong = deployment.balancers()
    wrong["services"] = [{"name": "web", "vip": VIP, "port": 80, "target_prot": 8080}]

    played = await deployment.play("lb.yml", good=False, lb_config=wrong)

    assert "services[0].target_prot: unknown key" in played.text
    assert 'did you mean "target_port"?' in played.text
    assert before == configurations(deployment)


async def a_new_service_is_reloaded_under_load(deployment, client):
    pids = {name: main_pid(deployment.found[name]) for name in NAMES}
    more = deployment.balancers()
    more["services"].append({"name": "second", "vip": VIP, "port": 81, "target_port": 8080})

    async with traffic(client, [WEB], kept=20) as sent:
        await deployment.play("lb.yml", lb_config=more)

    assert not sent.failures()
    assert {"node-0": 20} == (await ask(client, [Target(VIP, 81)], 20)).nodes()
    assert pids == {name: main_pid(deployment.found[name]) for name in NAMES}


async def a_rolling_restart_fails_no_request(deployment, client):
    pids = {name: main_pid(deployment.found[name]) for name in NAMES}

    async with traffic(client, [WEB], kept=20) as sent:
        await deployment.play("restart.yml", "--limit", "lb")

    assert not sent.failures()
    assert sent.kept > 0
    for name in ("lb-0", "lb-1"):
        assert pids[name] != main_pid(deployment.found[name])
    assert pids["node-0"] == main_pid(deployment.found["node-0"])


def configurations(deployment):
    return [deployment.found[name].run("cat", "/etc/galelb/lb.toml") for name in ("lb-0", "lb-1")]


def snapshot(machine):
    """What an installation could leave: files, units, programs, mounts, addresses."""
    links = json.loads(machine.run("ip", "-json", "-details", "address"))
    units = machine.run("sh", "-c", "cd /etc/systemd/system && find . -name '*galelb*'")
    loaded = machine.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "*galelb*")
    mounts = machine.run("cat", "/proc/mounts").splitlines()
    return {
        "files": [path for path in LEFT if machine.attempt("test", "-e", path).returncode == 0],
        "units": units,
        "loaded": loaded,
        "mounts": [line for line in mounts if "bpf" in line],
        "xdp": [link["ifname"] for link in links if "xdp" in link],
        "qdiscs": machine.run("tc", "qdisc", "show", "dev", "eth0"),
        "addresses": sorted(
            one["local"] for link in links for one in link["addr_info"] if one["scope"] == "global"
        ),
    }
