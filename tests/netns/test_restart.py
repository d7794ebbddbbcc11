# SPDX-License-Identifier: Apache-2.0
"""The daemon ends and begins again, whenever and however, and no packet is lost meanwhile."""

import contextlib
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from galelb.control.state import load_state

pytestmark = pytest.mark.netns

VIP, NODES = "10.80.0.1", ("10.81.0.11", "10.81.0.12")
TCP, UDP = 80, 5300
SMALL, LARGE = 4096, 16384
KILLS = 5
TRAFFIC = str(Path(__file__).with_name("live_traffic.py"))


def inside(namespace, *command):
    return ["nsenter", f"--net=/run/netns/{namespace.name}", sys.executable, *command]


class Site:
    """A client that talks all the time, a balancer with two interfaces and two nodes."""

    def __init__(self, wires, tmp_path):
        self.path, self.config = tmp_path, tmp_path / "lb.toml"
        self.directory = tmp_path / "t"
        self.client, self.lb = wires.namespace("c"), wires.namespace("lb")
        wires.join(self.client, "c0", self.lb, "pub")
        self.client.ip("addr", "add", "10.80.0.9/24", "dev", "c0")
        self.lb.ip("addr", "add", f"{VIP}/24", "dev", "pub")
        self.lb.ip("link", "add", "prv", "type", "bridge")
        self.lb.ip("addr", "add", "10.81.0.1/24", "dev", "prv")
        self.lb.ip("link", "set", "prv", "up")
        self.nodes = [wires.namespace(f"n{number}") for number, _ in enumerate(NODES)]
        for number, (node, address) in enumerate(zip(self.nodes, NODES, strict=True)):
            wires.join(node, "n0", self.lb, f"port{number}")
            self.lb.ip("link", "set", f"port{number}", "master", "prv")
            node.ip("addr", "add", f"{address}/24", "dev", "n0")
        for host, device in ((self.client, "c0"), *((node, "n0") for node in self.nodes)):
            host.call("ethtool", "-K", device, "tx", "off", "gro", "on")
        self._processes = []
        self.balancer = None

    def serve(self):
        for node in self.nodes:
            self._script(node, "echo", "8080")

    def _script(self, namespace, *words):
        process = subprocess.Popen(
            inside(namespace, TRAFFIC, *words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    def configure(self, max_flows=SMALL, max_slices=8, more=""):
        text = f'[instance]\nname = "t"\nrun_dir = "{self.path}"\n'
        text += '[private_interface]\nnet_interface_private = "prv"\n'
        text += '[public_interface]\nnet_interface_public = "pub"\n'
        text += "[node_health]\nsources = []\n"
        text += f"[plugins.l4_nat]\nmax_flows = {max_flows}\nmax_slices = {max_slices}\n"
        text += "".join(f'[[nodes]]\nip = "{node}"\n' for node in NODES)
        for port, protocol in ((TCP, "tcp"), (UDP, "udp")):
            text += f'[[services]]\nname = "{protocol}"\nvip = "{VIP}"\nport = {port}\n'
            text += f'protocol = "{protocol}"\ntarget_port = 8080\n'
        self.config.write_text(text + more)

    def begin(self):
        command = inside(self.lb, "-m", "galelb", "run", "--config", str(self.config))
        self.balancer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def wait_for(self, *events):
        """Read the log up to a line with one of the events; return all lines."""
        lines = []
        for line in self.balancer.stderr:
            lines.append(line)
            if any(f"event={event}" in line for event in events):
                return lines
        raise AssertionError("".join(lines))

    def start(self):
        self.begin()
        return self.wait_for("ready")

    def end(self, number=signal.SIGTERM):
        self.balancer.send_signal(number)
        self.balancer.communicate()
        self.balancer = None

    def end_after(self, seconds):
        """Kill it that long after it was told to do something, if it does not end before."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.balancer.wait(seconds)
        self.end(signal.SIGKILL)

    def pins(self):
        """Return the names of what is pinned, without the digests."""
        return sorted(path.name.rpartition("-")[0] for path in self._pin_folder().iterdir())

    def rename_pin(self, name):
        """Give a map's pin the digest of another shape."""
        (pin,) = self._pin_folder().glob(f"{name}-*")
        pin.rename(pin.with_name(f"{name}-{0:012x}"))

    def _pin_folder(self):
        return next(path.parent for path in (self.directory / "bpf").rglob("gale_nodes-*"))

    @contextlib.contextmanager
    def talking(self):
        """Have clients talk while the block runs; the value is filled with what they saw."""
        talk, seen = self._script(self.client, "talk", VIP, str(TCP), str(UDP)), {}
        yield seen
        told, _ = talk.communicate()
        seen |= json.loads(told)

    def close(self):
        for process in (self.balancer, *self._processes):
            if process is not None:
                process.kill()
                process.communicate()
        command = inside(self.lb, "-m", "galelb", "detach", "--config", str(self.config))
        subprocess.run(command, capture_output=True, check=False)


@pytest.fixture
def site(wires, tmp_path):
    made = Site(wires, tmp_path)
    try:
        made.serve()
        made.configure()
        yield made
    finally:
        made.close()
        shutil.rmtree(tmp_path / "t", ignore_errors=True)


def assert_nothing_broken(seen):
    """What began while tables were switched may have waited for its SYN to be sent again."""
    assert seen["errors"] == {"held": [], "fresh": []}
    assert seen["udp_lost"] == 0


def assert_nothing_lost(seen):
    assert seen["errors"] == {"held": [], "fresh": []}
    assert seen["udp_lost"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_loses_no_packet(site, number):
    site.start()
    pins = site.pins()

    with site.talking() as seen:
        site.end(number)
        site.start()

    assert_nothing_lost(seen)
    assert site.pins() == pins


@pytest.mark.parametrize(
    "sizes", [{"max_flows": LARGE}, {"max_slices": 16}, {"max_flows": 1024, "max_slices": 4}]
)
@pytest.mark.parametrize("how", ["restart", "crash", "reload"])
def test_flows_go_to_tables_of_another_size(site, how, sizes):
    site.start()
    pins = site.pins()

    with site.talking() as seen:
        site.configure(**sizes)
        if how == "reload":
            site.balancer.send_signal(signal.SIGHUP)
            log = site.wait_for("reloaded")
        else:
            site.end(signal.SIGTERM if how == "restart" else signal.SIGKILL)
            log = site.start()

    (carried,) = [line for line in log if "event=flows_" in line]
    assert "refused=0 waiting=0" in carried
    assert_nothing_broken(seen)
    assert site.pins() == pins


def test_starts_that_are_killed_anywhere_lose_no_packet_and_leave_nothing(site):
    moments = random.Random(7)
    site.start()
    pins = site.pins()

    with site.talking() as seen:
        site.end(signal.SIGKILL)
        for _ in range(KILLS):
            site.begin()
            site.end_after(moments.uniform(0.05, 1.2))
            load_state(site.directory)  # raises if the next start would refuse it
        log = site.start()

    assert_nothing_lost(seen)
    assert "adopted=true" in log[-1]
    assert site.pins() == pins


def test_reloads_that_are_killed_anywhere_lose_no_packet_and_leave_nothing(site):
    moments = random.Random(8)
    extra = f'[[services]]\nname = "extra"\nvip = "{VIP}"\nport = 81\ntarget_port = 8080\n'
    site.start()
    pins = site.pins()

    with site.talking() as seen:
        for number in range(KILLS):
            site.configure(more="" if number % 2 else extra)
            site.balancer.send_signal(signal.SIGHUP)
            site.end_after(moments.uniform(0.0, 0.8))
            load_state(site.directory)
            site.start()
        site.configure()
        site.balancer.send_signal(signal.SIGHUP)
        site.wait_for("reloaded")

    assert_nothing_lost(seen)
    assert site.pins() == pins


def test_moves_to_other_tables_that_are_killed_anywhere_break_nothing(site):
    moments = random.Random(9)
    sizes = itertools.cycle([{"max_flows": LARGE}, {"max_slices": 16}, {}])
    site.start()
    pins = site.pins()

    with site.talking() as seen:
        for _ in range(KILLS):
            site.configure(**next(sizes))
            site.balancer.send_signal(signal.SIGHUP)
            site.end_after(moments.uniform(0.3, 1.2))
            site.configure(**next(sizes))
            site.begin()
            site.end_after(moments.uniform(0.4, 1.2))
            load_state(site.directory)
            log = site.start()
            assert not [line for line in log if "flows_lost" in line]

    assert_nothing_broken(seen)
    assert site.pins() == pins


def replace_public_interface(site, wires):
    site.lb.ip("link", "del", "pub")
    wires.join(site.client, "c0", site.lb, "pub")
    site.client.ip("addr", "add", "10.80.0.9/24", "dev", "c0")
    site.lb.ip("addr", "add", f"{VIP}/24", "dev", "pub")
    site.client.call("ethtool", "-K", "c0", "tx", "off", "gro", "on")


def test_an_interface_that_was_made_anew_while_the_daemon_was_dead_is_attached(site, wires):
    site.start()
    site.end(signal.SIGKILL)

    replace_public_interface(site, wires)
    site.start()

    with site.talking() as seen:
        site.end(signal.SIGKILL)
    assert_nothing_lost(seen)


def test_an_interface_that_is_made_anew_is_attached_and_a_killed_daemon_knows(site, wires):
    site.start()
    replace_public_interface(site, wires)
    site.wait_for("attached")
    site.end(signal.SIGKILL)
    site.start()

    with site.talking() as seen:
        site.end(signal.SIGKILL)
        site.start()
    assert_nothing_lost(seen)


def test_maps_whose_state_is_gone_are_not_adopted(site):
    """What is numbered anew must not meet entries with the numbers of old."""
    site.start()
    pins = site.pins()
    site.end(signal.SIGKILL)
    (site.directory / "state.json").unlink()

    log = site.start()

    assert any("event=pins_without_state" in line for line in log)
    assert site.pins() == pins
    with site.talking() as seen:
        pass
    assert_nothing_lost(seen)


def test_flows_of_a_version_that_did_not_note_its_tables_are_lost_loudly(site):
    site.start()
    pins = site.pins()
    site.end()
    saved = json.loads((site.directory / "state.json").read_text())
    del saved["flow_maps"]
    (site.directory / "state.json").write_text(json.dumps(saved))
    site.rename_pin("l4_nat_flows4")

    log = site.start()

    (lost,) = [line for line in log if "event=flows_lost" in line]
    assert "an older version left tables of another form" in lost
    assert site.pins() == pins
    with site.talking() as seen:
        pass
    assert_nothing_lost(seen)
