# SPDX-License-Identifier: Apache-2.0
"""`galelb run` as a process on real wires: static nodes, reload, many services, detach."""

import json
import shutil
import signal
import subprocess
import sys

import pytest

from galelb.bpf.attach import query_xdp

pytestmark = pytest.mark.netns

VIP = "10.80.0.1"
# Answers each connection with the node's name and the client's address as the node sees it.
SERVER = """
import socket, sys
listener = socket.create_server(("0.0.0.0", 8080), backlog=128)
print("ready", flush=True)
while True:
    connection, peer = listener.accept()
    connection.sendall(f"{sys.argv[1]} {peer[0]}".encode())
    connection.close()
"""
ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2) as connection:
    print(connection.recv(100).decode())
"""


class Site:
    """A client, a balancer with two interfaces and two nodes, each in a namespace."""

    def __init__(self, wires, tmp_path):
        self._path = tmp_path
        self.config = tmp_path / "lb.toml"
        self.client, self.lb = wires.namespace("c"), wires.namespace("lb")
        wires.join(self.client, "c0", self.lb, "pub")
        self.client.ip("addr", "add", "10.80.0.9/24", "dev", "c0")
        self.lb.ip("addr", "add", f"{VIP}/24", "dev", "pub")
        self.lb.ip("link", "add", "prv", "type", "bridge")
        self.lb.ip("addr", "add", "10.81.0.1/24", "dev", "prv")
        self.lb.ip("link", "set", "prv", "up")
        self.nodes = [wires.namespace(f"n{number}") for number in (1, 2)]
        self._servers = []
        for number, node in enumerate(self.nodes, 1):
            wires.join(node, "n0", self.lb, f"port{number}")
            self.lb.ip("link", "set", f"port{number}", "master", "prv")
            node.ip("addr", "add", f"10.81.0.1{number}/24", "dev", "n0")
        for host, device in ((self.client, "c0"), *((node, "n0") for node in self.nodes)):
            host.call("ethtool", "-K", device, "tx", "off", "gro", "on")
        self.balancer = None

    def serve(self):
        for number, node in enumerate(self.nodes, 1):
            command = [sys.executable, "-c", SERVER, f"n{number}"]
            server = subprocess.Popen(inside(node, command), stdout=subprocess.PIPE, text=True)
            self._servers.append(server)
            assert server.stdout.readline() == "ready\n"

    def configure(self, *services, nodes=("10.81.0.11", "10.81.0.12")):
        text = f'[instance]\nname = "t"\nrun_dir = "{self._path}"\n'
        text += '[private_interface]\nnet_interface_private = "prv"\n'
        text += '[public_interface]\nnet_interface_public = "pub"\n'
        text += "[node_health]\nsources = []\n"
        text += "".join(f'[[nodes]]\nip = "{node}"\n' for node in nodes)
        for port in services:
            text += f'[[services]]\nname = "s{port}"\nvip = "{VIP}"\nport = {port}\n'
            text += "target_port = 8080\n"
        self.config.write_text(text)

    def galelb(self, *words):
        command = inside(self.lb, [sys.executable, "-m", "galelb", *words])
        return subprocess.run(
            [*command, "--config", str(self.config)], capture_output=True, text=True, check=False
        )

    def start(self, until="event=ready"):
        command = [sys.executable, "-m", "galelb", "run", "--config", str(self.config)]
        self.balancer = subprocess.Popen(
            inside(self.lb, command), stderr=subprocess.PIPE, text=True
        )
        self.wait_for(until)

    def wait_for(self, *events):
        """Read the log up to a line with one of the events and return that line."""
        lines = []
        for line in self.balancer.stderr:
            lines.append(line)
            if any(event in line for event in events):
                return line
        raise AssertionError("".join(lines))

    def stop(self, number=signal.SIGTERM):
        """Stop it and return its exit status."""
        self.balancer.send_signal(number)
        self.balancer.communicate()
        status, self.balancer = self.balancer.returncode, None
        return status

    def hold_vips(self, *vips):
        """Let nodes answer as these VIPs, which lie beyond the balancer, by way of it."""
        self.lb.call("sysctl", "-qw", "net.ipv4.ip_forward=1")
        for device in ("all", "prv"):
            self.lb.call("sysctl", "-qw", f"net.ipv4.conf.{device}.rp_filter=0")
        for vip in vips:
            self.client.ip("route", "add", vip, "via", VIP)
        for node in self.nodes:
            node.ip("route", "add", "default", "via", "10.81.0.1")
            for vip in vips:
                node.ip("addr", "add", f"{vip}/32", "dev", "lo")

    def ask(self, port, vip=VIP):
        """Return what the service answered, or why it did not."""
        command = [sys.executable, "-c", ASK, vip, str(port)]
        done = subprocess.run(
            inside(self.client, command), capture_output=True, text=True, check=False
        )
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

    def close(self):
        for process in (self.balancer, *self._servers):
            if process is not None:
                process.kill()
                process.communicate()
        self.configure(80)  # a test may have left a file that nobody can read
        self.galelb("detach")


def inside(namespace, command):
    return ["nsenter", f"--net=/run/netns/{namespace.name}", *command]


@pytest.fixture
def site(wires, tmp_path):
    made = Site(wires, tmp_path)
    try:
        made.serve()
        yield made
    finally:
        made.close()
        shutil.rmtree(tmp_path / "t", ignore_errors=True)


def answers(site, port, count=12, vip=VIP):
    return {site.ask(port, vip) for _ in range(count)}


BOTH = {"n1 10.81.0.1", "n2 10.81.0.1"}


def test_static_nodes_behind_a_bridge_without_kernel_forwarding(site):
    """A bridge has no native XDP, and most machines do not forward: neither is in the way."""
    site.lb.call("sysctl", "-qw", "net.ipv4.ip_forward=0")
    site.configure(80)
    site.start()

    assert BOTH == answers(site, 80)
    status = site.galelb("status", "--json").stdout
    assert '"mode": "tc"' in status
    assert '"mode": "native"' not in status


def test_a_reload_adds_and_removes_services_and_nodes(site):
    site.configure(80)
    site.start()
    assert answers(site, 80) == BOTH

    site.configure(81, nodes=["10.81.0.12"])
    site.balancer.send_signal(signal.SIGHUP)
    site.wait_for("event=reloaded")

    assert answers(site, 81) == {"n2 10.81.0.1"}
    assert "refused" in site.ask(80).lower()


def test_a_file_that_cannot_be_used_changes_nothing(site):
    site.configure(80)
    site.start()
    site.config.write_text("[nonsense]\n")

    site.balancer.send_signal(signal.SIGHUP)
    line = site.wait_for("event=not_reloaded", "event=reloaded")

    assert "nonsense" in line
    assert answers(site, 80) == BOTH


def test_more_services_than_compares_are_found_in_a_map(site):
    ports = range(9001, 9041)
    site.configure(*ports)
    site.start()
    assert all(site.ask(port) in BOTH for port in (9001, 9020, 9040))

    site.configure(*ports[:-1])
    site.balancer.send_signal(signal.SIGHUP)
    site.wait_for("event=reloaded")

    assert site.ask(9039) in BOTH
    assert "refused" in site.ask(9040).lower()


BRIDGED, ROUTED = "10.80.0.50", "10.80.0.51"
THREE = f"""
[forwarding]
plugin = "l2_bridge"
scheduler = "ring"
[plugins.l3_route]
encap = "none"
[[services]]
name = "bridged"
vip = "{BRIDGED}"
port = 8080
[[services]]
name = "routed"
vip = "{ROUTED}"
port = 8080
forwarder = "l3_route"
scheduler = "maglev"
[[services]]
name = "translated"
vip = "{VIP}"
port = 80
target_port = 8080
forwarder = "l4_nat"
"""


def described(site):
    """Forwarder and scheduler of each service as `galelb services` says."""
    shown = json.loads(site.galelb("services", "--json").stdout)["services"]
    return {one["name"]: (one["forwarder"], one["scheduler"]) for one in shown}


def test_every_service_has_its_own_forwarder_and_scheduler_and_a_reload_changes_them(site):
    site.hold_vips(BRIDGED, ROUTED)
    site.configure()
    site.config.write_text(site.config.read_text() + THREE)
    assert site.galelb("check").returncode == 0
    site.start()

    assert answers(site, 80) == BOTH
    for vip in (BRIDGED, ROUTED):
        assert answers(site, 8080, vip=vip) == {"n1 10.80.0.9", "n2 10.80.0.9"}
    expected = {
        "bridged": ("l2_bridge", "ring"),
        "routed": ("l3_route", "maglev"),
        "translated": ("l4_nat", "ring"),
    }
    assert described(site) == expected

    changed = site.config.read_text().replace('"l2_bridge"', '"l3_route"', 1)
    site.config.write_text(changed.replace('scheduler = "ring"', "[plugins.ring]", 1))
    site.balancer.send_signal(signal.SIGHUP)
    site.wait_for("event=reloaded")

    assert described(site)["bridged"] == ("l3_route", "maglev")
    assert described(site)["translated"] == ("l4_nat", "maglev")
    assert answers(site, 8080, vip=BRIDGED) == {"n1 10.80.0.9", "n2 10.80.0.9"}
    assert answers(site, 80) == BOTH


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_forwarding_outlives_the_daemon_and_ends_with_detach(site, number):
    site.configure(80)
    site.start()
    site.stop(number)
    assert answers(site, 80) == BOTH

    done = site.galelb("detach")

    assert (0, "instance t: removed\n") == (done.returncode, done.stdout)
    assert "refused" in site.ask(80).lower()
    pub = site.lb.ifindex("pub")
    assert site.lb.thread(lambda: query_xdp(pub)) is None
    assert "clsact" not in site.lb.call("tc", "qdisc", "show", "dev", "prv")
    assert not (site.config.parent / "t").exists()


def test_a_restart_adopts_a_drain(site):
    site.configure(80)
    site.start()
    assert site.galelb("drain", "10.81.0.11").returncode == 0
    site.wait_for("event=table_changed")
    site.stop(signal.SIGKILL)
    site.start()

    assert answers(site, 80) == {"n2 10.81.0.1"}
    assert site.galelb("undrain", "10.81.0.11").returncode == 0


def test_a_second_daemon_of_an_instance_is_refused(site):
    site.configure(80)
    site.start()

    done = site.galelb("run")

    assert done.returncode == 1
    assert "an instance is running" in done.stderr
    assert answers(site, 80) == BOTH


def test_an_interface_that_is_missing_is_a_configuration_error(site):
    site.configure(80)
    site.config.write_text(site.config.read_text().replace('"pub"', '"nosuch0"'))

    done = site.galelb("run")

    assert done.returncode == 2
    assert "this machine has no interface nosuch0" in done.stderr


def test_a_second_balancer_does_not_take_over_the_interfaces_of_the_first(site):
    site.configure(80)
    site.start()
    first = site.config.read_text()
    site.config.write_text(first.replace('name = "t"', 'name = "t2"'))

    second, detached = site.galelb("run"), site.galelb("detach")
    site.config.write_text(first)

    assert (1, True) == (second.returncode, "belongs to another balancer" in second.stderr)
    assert detached.returncode == 0
    assert answers(site, 80) == BOTH


def test_being_stopped_while_starting_is_no_failure_and_leaves_nothing_attached(site):
    site.configure(80)
    site.start(until="event=node_joined")

    assert site.stop() == 0
    assert "refused" in site.ask(80).lower()


def test_a_balancer_that_died_before_it_saved_can_be_detached(site):
    site.configure(80)
    site.start()
    site.stop(signal.SIGKILL)
    (site.config.parent / "t" / "state.json").unlink()

    done = site.galelb("detach")

    assert done.returncode == 0
    assert "refused" in site.ask(80).lower()


def test_an_interface_that_goes_and_comes_back_is_told_and_attached_again(site):
    site.configure(80)
    site.start()
    site.lb.ip("link", "set", "pub", "down")
    site.lb.ip("link", "set", "pub", "name", "other")
    assert "renamed to other" in site.wait_for("event=interface_gone")

    site.lb.ip("link", "set", "other", "name", "pub")
    site.lb.ip("link", "set", "pub", "up")
    site.wait_for("event=attached")

    assert answers(site, 80) == BOTH
