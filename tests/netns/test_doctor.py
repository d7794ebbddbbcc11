# SPDX-License-Identifier: Apache-2.0
"""`galelb doctor` on real machines: break something, do what it says, and it is content."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from galelb.netlink.xdp_features import XdpFeature, xdp_features
from galelb.node.decap_program import DecapProgram

pytestmark = pytest.mark.netns

VIP = "10.77.0.100"
LB = """\
[instance]
name = "t"
run_dir = "{folder}"
[private_interface]
net_interface_private = "lb0"
[public_interface]
net_interface_public = "lb0"
[forwarding]
plugin = "{forwarder}"
[[services]]
name = "web"
vip = "10.77.0.100"
port = 8080
"""
NODE = """\
[load_balancer]
addresses = [ {{ ip = "10.77.0.1" }} ]
[node]
state_file = "{folder}/node.json"
[[checks]]
name = "web"
type = "tcp"
target = "127.0.0.1:8080"
"""
LISTEN = """
import socket, sys
listener = socket.create_server((sys.argv[1], 8080))
print("ready", flush=True)
while True:
    listener.accept()[0].close()
"""


class Site:
    """A balancer and a node on one wire; nobody has set the node up."""

    def __init__(self, pair, folder):
        self.lb, self.node = pair
        self._folder = folder
        self._processes = []
        self.configure()
        (folder / "node.toml").write_text(NODE.format(folder=folder))
        for machine, device in ((self.lb, "lb0"), (self.node, "node0")):
            machine.call("ethtool", "-K", device, "gro", "on", "tx", "off")
        self.lb.ip("address", "add", f"{VIP}/32", "dev", "lb0")
        self.node.ip("route", "add", "default", "via", "10.77.0.1")
        self.node.ip("route", "add", "default", "via", "fd77::1")

    def configure(self, forwarder="l2_bridge", more=""):
        text = LB.format(folder=self._folder, forwarder=forwarder) + more
        (self._folder / "lb.toml").write_text(text)

    def run(self, machine, *command):
        """Run a command with `galelb` on its path."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.run(
            ["nsenter", f"--net=/run/netns/{machine.name}", *command],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PATH": path},
        )

    def begin(self, machine, *command, until):
        """Start a process and read its output up to a line with `until`."""
        process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{machine.name}", sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._processes.append(process)
        said = []
        for line in process.stdout:
            said.append(line)
            if until in line:
                return process
        raise AssertionError("".join(said))

    def balance(self):
        config = str(self._folder / "lb.toml")
        return self.begin(self.lb, "-m", "galelb", "run", "--config", config, until="event=ready")

    def serve(self, address="0.0.0.0"):
        return self.begin(self.node, "-c", LISTEN, address, until="ready")

    def doctor(self, machine, name=None):
        """Return what is not well by name, with the command that mends it."""
        name = name or ("lb.toml" if machine is self.lb else "node.toml")
        config = str(self._folder / name)
        done = self.run(machine, "galelb", "doctor", "--config", config, "--json")
        found = json.loads(done.stdout)
        assert done.returncode == (1 if found["failed"] else 0), done.stderr
        return {o["name"]: o["mend"] for o in found["checks"] if o["result"] != "ok"}

    def mend(self, machine, commands):
        for command in commands:
            done = self.run(machine, "sh", "-c", command)
            assert done.returncode == 0, f"{command}: {done.stderr}"

    def close(self):
        for process in self._processes:
            process.kill()
            process.wait()
            process.stdout.close()
        self.run(self.lb, "galelb", "detach", "--config", str(self._folder / "lb.toml"))
        DecapProgram.remove(self._folder / "node.tunnels")


@pytest.fixture
def site(pair, tmp_path):
    made = Site(pair, tmp_path)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(tmp_path / "t", ignore_errors=True)


def test_a_node_is_mended_by_the_commands_that_are_named(site):
    site.balance()
    site.serve()
    site.node.call("sysctl", "-qw", "net.ipv4.conf.node0.rp_filter=1")

    found = site.doctor(site.node)
    assert {f"vip {VIP}", "rp_filter node0", "arp_ignore all", "arp_announce all"} == set(found)
    site.mend(site.node, found.values())
    assert {} == site.doctor(site.node)

    for command in (
        ("ip", "address", "del", f"{VIP}/32", "dev", "lo"),
        ("sysctl", "-qw", "net.ipv4.conf.node0.arp_ignore=3"),
        ("sysctl", "-qw", "net.ipv4.conf.node0.rp_filter=1"),
    ):
        site.node.call(*command)
        found = site.doctor(site.node)
        assert 1 == len(found), found
        site.mend(site.node, found.values())
        assert {} == site.doctor(site.node)


def test_a_server_that_listens_elsewhere_is_found_from_the_node_itself(site):
    balancer = site.balance()
    server = site.serve("127.0.0.1")
    site.mend(site.node, filter(None, site.doctor(site.node).values()))

    assert {f"answer {VIP}:8080": ""} == site.doctor(site.node)

    server.kill()
    server.wait()
    assert {"check web", f"answer {VIP}:8080"} == set(site.doctor(site.node))
    site.serve()
    assert {} == site.doctor(site.node)

    balancer.kill()
    balancer.wait()
    assert ["balancer 10.77.0.1:7070"] == list(site.doctor(site.node))


def test_a_balancer_is_mended_before_it_runs(site):
    assert {} == site.doctor(site.lb)

    site.lb.ip("address", "del", f"{VIP}/32", "dev", "lb0")
    found = site.doctor(site.lb)
    assert [f"vip {VIP}"] == list(found)
    site.mend(site.lb, found.values())

    site.lb.ip("link", "set", "lb0", "down")
    found = site.doctor(site.lb)
    assert {"interface lb0": "ip link set lb0 up"} == found
    site.mend(site.lb, found.values())

    site.node.call("ethtool", "-K", "node0", "gro", "off")
    found = site.doctor(site.lb)
    assert ["xdp lb0"] == list(found)
    site.mend(site.node, [found["xdp lb0"].replace("DEVICE", "node0")])
    assert {} == site.doctor(site.lb)


def test_a_balancer_that_runs_and_one_that_died(site):
    site.configure(more='[[nodes]]\nip = "10.77.0.2"\n[[nodes]]\nip = "10.77.0.66"\n')
    balancer = site.balance()
    assert ["node 10.77.0.66"] == list(site.doctor(site.lb))

    from_elsewhere = site.doctor(site.node, "lb.toml")
    assert ["namespace"] == list(from_elsewhere)
    assert f"nsenter --net=/proc/{balancer.pid}/ns/net galelb" in from_elsewhere["namespace"]

    site.configure(more='[[nodes]]\nip = "10.77.0.2"\n[node_health]\nchecks_timeout = "9s"\n')
    found = site.doctor(site.lb)
    assert {"configuration": f"kill -HUP {balancer.pid}", "node 10.77.0.66": ""} == found
    site.mend(site.lb, [found["configuration"]])
    assert any("event=reloaded" in line for line in balancer.stdout)
    assert {} == site.doctor(site.lb)

    balancer.kill()
    balancer.wait()
    found = site.doctor(site.lb)
    assert "galelb detach" in found["instance t"]
    site.mend(site.lb, [found["instance t"]])

    assert {} == site.doctor(site.lb)


def test_a_balancer_that_wants_a_token_gets_that_of_the_node(site, tmp_path):
    token = tmp_path / "token"
    token.write_text("sixteen-characters-or-more\n")
    token.chmod(0o600)
    site.configure(more=f'[plugins.health_grpc]\ntoken_file = "{token}"\n')
    site.balance()
    site.serve()

    assert ["balancer 10.77.0.1:7070"] == list(site.doctor(site.node))

    file = tmp_path / "node.toml"
    file.write_text(file.read_text().replace("[node]", f'token_file = "{token}"\n[node]'))
    assert f"vip {VIP}" in site.doctor(site.node)


def test_packets_that_stay_in_tunnels_until_the_agent_runs(site, tmp_path):
    site.configure("l3_route")
    site.balance()
    site.serve()
    assert "galelb node" == site.doctor(site.node)["tunnels node0"]

    config = str(tmp_path / "node.toml")
    agent = site.begin(
        site.node, "-m", "galelb", "node", "--config", config, until="state=routable"
    )
    assert {} == site.doctor(site.node)

    agent.kill()
    agent.wait()
    assert {} == site.doctor(site.node)
    site.node.ip("link", "set", "node0", "xdp", "off")
    assert ["tunnels node0"] == list(site.doctor(site.node))


def test_ports_and_interfaces_that_others_have(site):
    site.balance()
    text = (site._folder / "lb.toml").read_text()
    (site._folder / "lb.toml").write_text(text.replace('name = "t"', 'name = "other"'))

    found = site.doctor(site.lb)

    assert {"owner lb0", "node_port 7070", "api_port 5555"} == set(found)
    (site._folder / "lb.toml").write_text(text)


def test_the_kernel_tells_what_drivers_can(pair):
    lb, node = pair
    lb.ip("link", "add", "br9", "type", "bridge")
    node.call("ethtool", "-K", "node0", "gro", "on")
    indices = lb.ifindex("lb0"), lb.ifindex("br9")

    veth, bridge = lb.thread(lambda: [xdp_features(one) for one in indices])

    assert XdpFeature.BASIC | XdpFeature.REDIRECT | XdpFeature.NDO_XMIT == veth
    assert XdpFeature(0) == bridge
