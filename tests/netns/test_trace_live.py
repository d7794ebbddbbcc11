# SPDX-License-Identifier: Apache-2.0
"""`galelb trace --live` beside a balancer that runs: it sees what is there and changes nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from scapy.all import IP, TCP, Ether

from galelb.bpf import mapcalls, syscalls
from galelb.bpf.layout import MapType
from galelb.bpf.maps import possible_cpus
from galelb.pcap import PcapWriter

pytestmark = pytest.mark.netns

VIP, CLIENT = "10.80.0.1", "10.80.0.9"
NODES = ("10.81.0.11", "10.81.0.12")
SERVER = """
import socket, sys
listener = socket.create_server(("0.0.0.0", 8080), backlog=128)
print("ready", flush=True)
while True:
    listener.accept()[0].sendall(sys.argv[1].encode())
"""
ASK = """
import socket
with socket.create_connection(("10.80.0.1", 80), 5, ("10.80.0.9", 40000)) as connection:
    print(connection.recv(100).decode(), flush=True)
    input()
"""
BATCHED = {MapType.HASH, MapType.ARRAY, MapType.PERCPU_ARRAY, MapType.LRU_HASH}


class Site:
    """A client, a balancer and two nodes behind its bridge, in a namespace each."""

    def __init__(self, wires, folder):
        self.folder = folder
        self.config = folder / "lb.toml"
        self.client, self.lb = wires.namespace("c"), wires.namespace("lb")
        self._processes = []
        wires.join(self.client, "c0", self.lb, "pub")
        self.client.ip("addr", "add", f"{CLIENT}/24", "dev", "c0")
        self.lb.ip("addr", "add", f"{VIP}/24", "dev", "pub")
        self.lb.ip("link", "add", "prv", "type", "bridge")
        self.lb.ip("addr", "add", "10.81.0.1/24", "dev", "prv")
        self.lb.ip("link", "set", "prv", "up")
        self.client.call("ethtool", "-K", "c0", "tx", "off", "gro", "on")
        self.nodes = {address: wires.namespace(f"n{address[-1]}") for address in NODES}
        for address, node in self.nodes.items():
            wires.join(node, "n0", self.lb, f"port{address[-1]}")
            self.lb.ip("link", "set", f"port{address[-1]}", "master", "prv")
            node.ip("addr", "add", f"{address}/24", "dev", "n0")
            node.call("ethtool", "-K", "n0", "tx", "off", "gro", "on")

    def configure(self, more=""):
        text = f'[instance]\nname = "t"\nrun_dir = "{self.folder}"\n'
        text += '[private_interface]\nnet_interface_private = "prv"\n'
        text += '[public_interface]\nnet_interface_public = "pub"\n'
        text += "[node_health]\nsources = []\n"
        text += "".join(f'[[nodes]]\nip = "{node}"\n' for node in NODES)
        text += f'[[services]]\nname = "web"\nvip = "{VIP}"\nport = 80\ntarget_port = 8080\n'
        self.config.write_text(text + more)

    def start(self):
        self.configure()
        for address, node in self.nodes.items():
            server = self.run(node, [sys.executable, "-c", SERVER, address])
            assert server.stdout.readline() == "ready\n"
        command = [sys.executable, "-m", "galelb", "run", "--config", str(self.config)]
        self.balancer = self.run(self.lb, command, stderr=subprocess.PIPE)
        assert any("event=ready" in line for line in self.balancer.stderr)

    def run(self, host, command, **more):
        process = subprocess.Popen(
            inside(host, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **more
        )
        self._processes.append(process)
        return process

    def connect(self):
        """Open a connection that stays open; return the node that answered."""
        return self.run(self.client, [sys.executable, "-c", ASK]).stdout.readline().strip()

    def galelb(self, *words):
        command = inside(self.lb, [sys.executable, "-m", "galelb", *words])
        return subprocess.run(
            [*command, "--config", str(self.config)], capture_output=True, text=True, check=False
        )

    def trace(self, *packets):
        """Return the objects of a live trace, and what it said beside them."""
        pcap = self.folder / "in.pcap"
        with PcapWriter(pcap) as file:
            for packet in packets:
                file.write(0, bytes(packet))
        done = self.galelb("trace", "--live", "--json", "--pcap", str(pcap))
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    def maps(self):
        """Return all that the balancer's maps hold, as bytes by name."""
        found = {}
        for pin in sorted((self.folder / "t" / "bpf").iterdir()):
            if pin.name.startswith(("gale_", "l4_nat_")):
                fd = syscalls.obj_get(pin)
                found[pin.name] = content(fd)
                os.close(fd)
        return found

    def freeze(self):
        """Have nothing happen any more: the daemon stands still and no packet can arrive."""
        self.balancer.send_signal(signal.SIGSTOP)
        self.client.ip("link", "set", "c0", "down")
        for node in self.nodes.values():
            node.ip("link", "set", "n0", "down")

    def close(self):
        for process in self._processes:
            process.kill()
            process.communicate()
        self.configure()
        self.galelb("detach")


def content(fd):
    """Return a map's entries as bytes, in a fixed order."""
    info = syscalls.map_info(fd)
    if info.type not in BATCHED:
        return []
    size = info.leaf_size
    if info.type == MapType.PERCPU_ARRAY:
        size = -(-size // 8) * 8 * possible_cpus()
    batches = mapcalls.lookup_batches(fd, info.key_size, size, 4096)
    return sorted((bytes(keys), bytes(leaves)) for keys, leaves in batches)


def inside(namespace, command):
    return ["nsenter", f"--net=/run/netns/{namespace.name}", *command]


@pytest.fixture
def site(wires, tmp_path):
    made = Site(wires, tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.close()
        shutil.rmtree(tmp_path / "t", ignore_errors=True)


def segment(sport, flags, dport=80):
    return Ether() / IP(src=CLIENT, dst=VIP) / TCP(sport=sport, dport=dport, flags=flags)


def test_a_live_trace_sees_flows_and_changes_nothing(site):
    node = site.connect()
    (flow,) = json.loads(site.galelb("flows", "--json").stdout)["flows"]
    site.freeze()
    before = site.maps()
    packets = segment(40000, "A"), segment(50000, "S"), segment(50000, "S", dport=81)
    found, _ = site.trace(*packets)
    again, _ = site.trace(*packets)

    assert before == site.maps()
    assert {"gale_service_stats", "gale_nodes", "l4_nat_flows4"} <= {
        name.partition("-")[0] for name, entries in before.items() if entries
    }
    assert found == again
    assert ["forwarded", "forwarded", "pass_foreign"] == [one["reason"] for one in found]
    known, new, _ = found
    assert (node, flow["node"]) == (known["node"], node)
    ports = [layer["sport"] for layer in known["out"]["layers"] if layer["layer"] == "tcp"]
    assert [flow["source_port"]] == ports
    assert "flow_made" not in {step["step"] for step in known["steps"]}
    assert "flow_made" in {step["step"] for step in new["steps"]}
    assert ("pub", "prv") == (known["in_interface"], known["out_interface"])


def test_a_live_trace_says_how_it_may_differ(site):
    """The bridge towards the nodes has no native XDP, so the balancer runs in TC."""
    _, said = site.trace(segment(50000, "S"))
    site.configure("[forwarding]\ntable_seed = 7\n")
    _, other = site.trace(segment(50000, "S"))

    assert "# the balancer runs in TC; this is what the same programs do in XDP\n" == said
    assert f"# the balancer's programs were not made of {site.config} as it is now" in other


def test_services_that_are_not_served_cannot_be_traced(site):
    site.configure(f'[[services]]\nname = "new"\nvip = "{VIP}"\nport = 99\n')
    pcap = site.folder / "in.pcap"
    with PcapWriter(pcap) as file:
        file.write(0, bytes(segment(50000, "S")))
    done = site.galelb("trace", "--live", "--pcap", str(pcap))

    assert 1 == done.returncode
    assert "has the service new, which the balancer does not serve: have it reread" in done.stderr


def test_programs_that_outlived_their_balancer_are_traced(site):
    site.balancer.kill()
    site.balancer.wait()
    (found,), _ = site.trace(segment(50000, "S"))

    assert "forwarded" == found["reason"]
    assert found["node"] in NODES
