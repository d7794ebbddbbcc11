# SPDX-License-Identifier: Apache-2.0
"""announce_bgp with real birds: a router, and two balancers with a bird each."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
import trio
from galelb_plugins.announce_bgp.bird_control import open_bird
from galelb_plugins.announce_bgp.plugin import AnnounceBgp, AnnounceBgpOptions, include_pattern

from galelb.announcer import Held, HeldKind
from galelb.group.holder import LIFETIME_S
from galelb.testing.contract.announcer import VIPS, AnnouncerContract

pytestmark = pytest.mark.netns

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "ecmp-with-bgp.md"
LIMIT_S = 40
VIP4, VIP6 = "192.0.2.10", "2001:db8::10"

DAEMON = """
import sys, trio
from ipaddress import ip_address
from pathlib import Path
from galelb.announcer import AnnouncerContext, Held, HeldKind
from galelb.config.models import BalancerConfig
from galelb.group.holder import AddressHolder
from galelb.netlink import open_netlink
from galelb_plugins.announce_bgp.plugin import AnnounceBgp, AnnounceBgpOptions

folder = Path(sys.argv[1])
options = AnnounceBgpOptions(
    include_file=folder / "galelb.conf", control_socket=folder / "bird.ctl"
)
config = BalancerConfig.model_construct()
vips = [Held(address=ip_address(a), interface="lo", kind=HeldKind.VIP) for a in sys.argv[2:]]

async def main():
    print("ready", flush=True)
    sys.stdin.readline()
    async with open_netlink() as netlink:
        interfaces = await netlink.interfaces(lent=True)
    context = AnnouncerContext(config=config, directory=folder, interfaces=lambda: interfaces)
    announcer = AnnounceBgp(options, context)
    holder = AddressHolder(announcer.announce)
    holder.hold(vips)
    async with trio.open_nursery() as nursery:
        await nursery.start(announcer.run)
        await nursery.start(holder.run)
        await trio.lowlevel.wait_readable(sys.stdin)
        await announcer.withdraw()
        print("withdrawn", flush=True)
        nursery.cancel_scope.cancel()

trio.run(main)
"""

ROUTER = """
log stderr all;
router id 10.77.0.254;
protocol device {}
protocol kernel k4 { merge paths on; ipv4 { export all; }; }
protocol kernel k6 { merge paths on; ipv6 { export all; }; }
"""
ROUTER_PEER = """
protocol bgp one4_@N@ {
  local 10.77.@N@.1 as 65000; neighbor 10.77.@N@.2 as 65010; connect delay time 1;
  ipv4 { import all; export none; };
}
protocol bgp one6_@N@ {
  local fd77:@N@::1 as 65000; neighbor fd77:@N@::2 as 65010; connect delay time 1;
  ipv6 { import all; export none; };
}
"""
BALANCER = """
log stderr all;
router id 10.77.@N@.2;
protocol device {}
include "@FOLDER@/galelb*.conf";
protocol bgp router4 {
  local 10.77.@N@.2 as 65010;
  neighbor 10.77.@N@.1 as 65000;
  connect delay time 1;
  ipv4 { import none; export where proto ~ "galelb_*"; };
}
protocol bgp router6 {
  local fd77:@N@::2 as 65010;
  neighbor fd77:@N@::1 as 65000;
  connect delay time 1;
  ipv6 { import none; export where proto ~ "galelb_*"; };
}
"""


def wait_until(condition):
    """Ask again until it is so."""

    async def main():
        with trio.fail_after(LIMIT_S):
            while not condition():
                await trio.sleep(0.02)

    trio.run(main)


@contextlib.contextmanager
def bird(namespace, folder, text):
    """Run bird in a namespace, with its socket and configuration in a folder."""
    (folder / "bird.conf").write_text(text)
    files = ("-c", "bird.conf", "-s", "bird.ctl", "-P", "bird.pid")
    command = ("ip", "netns", "exec", namespace.name, "bird", "-f", *files)
    with (folder / "bird.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def daemon(namespace, folder, *vips):
    """Run a holder and an announcer in a process of their own; they begin when told so."""
    command = ("ip", "netns", "exec", namespace.name, sys.executable, "-c", DAEMON)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen((*command, str(folder), *vips), **pipes)
    try:
        assert "ready\n" == process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


def tell(process, word="go"):
    process.stdin.write(f"{word}\n")
    process.stdin.flush()


class Network:
    """A router, balancers 1 and 2 at its ports, and birds that know each other."""

    def __init__(self, wires, tmp_path):
        self.router = wires.namespace("router")
        self.balancers, self.folders = {}, {}
        self._folder = tmp_path
        for number in (1, 2):
            balancer = self.balancers[number] = wires.namespace(f"lb{number}")
            wires.join(self.router, f"port{number}", balancer, "pub0")
            for namespace, device, last in (
                (self.router, f"port{number}", 1),
                (balancer, "pub0", 2),
            ):
                namespace.ip("addr", "add", f"10.77.{number}.{last}/24", "dev", device)
                namespace.ip("addr", "add", f"fd77:{number}::{last}/64", "dev", device, "nodad")
            self.folders[number] = tmp_path / f"lb{number}"

    @contextlib.contextmanager
    def birds(self):
        """Run all birds."""
        with contextlib.ExitStack() as stack:
            peers = "".join(ROUTER_PEER.replace("@N@", str(n)) for n in (1, 2))
            (self._folder / "router").mkdir()
            stack.enter_context(bird(self.router, self._folder / "router", ROUTER + peers))
            for number, balancer in self.balancers.items():
                folder = self.folders[number]
                folder.mkdir()
                text = BALANCER.replace("@N@", str(number)).replace("@FOLDER@", str(folder))
                stack.enter_context(bird(balancer, folder, text))
            yield

    def ways(self, vip):
        """Return the ports by which the router's kernel sends to a VIP."""
        family = "-6" if ":" in vip else "-4"
        found = set()
        for route in json.loads(self.router.ip(family, "-j", "route", "show", vip) or "[]"):
            found |= {hop["dev"] for hop in route.get("nexthops", [route])}
        return found

    def all_ways(self):
        return [self.ways(vip) for vip in (VIP4, VIP6)]


BOTH = [{"port1", "port2"}] * 2
SECOND = [{"port2"}] * 2


@pytest.fixture
def network(wires, tmp_path):
    made = Network(wires, tmp_path)
    with made.birds():
        yield made


@pytest.fixture
def daemons(network):
    """Return the daemons of both balancers, which announce."""
    with (
        daemon(network.balancers[1], network.folders[1], VIP4, VIP6) as one,
        daemon(network.balancers[2], network.folders[2], VIP4, VIP6) as two,
    ):
        tell(one)
        tell(two)
        wait_until(lambda: network.all_ways() == BOTH)
        yield one, two


def test_the_router_sends_to_both_until_one_withdraws(network, daemons):
    tell(daemons[0], "withdraw")

    assert "withdrawn\n" in daemons[0].stdout
    wait_until(lambda: network.all_ways() == SECOND)
    assert 0 == daemons[0].wait(LIMIT_S)


def test_bird_withdraws_by_itself_when_the_daemon_was_killed(network, daemons):
    os.kill(daemons[0].pid, signal.SIGKILL)
    wait_until(lambda: network.all_ways() == SECOND)

    assert VIP4 in (network.folders[1] / "galelb.conf").read_text()


def hear(router, news):
    """Wait until a monitor of routes that was just started tells of changes."""

    def told():
        # It hears of nothing that happened before it listened: change a route until it does.
        for action in ("add", "del"):
            router.ip("route", action, "blackhole", "10.99.0.1")
        return "10.99.0.1" in news.read_text()

    wait_until(told)


def test_a_daemon_that_is_back_in_time_was_never_missed(network, daemons, tmp_path):
    news = tmp_path / "news"
    monitor = ("ip", "-n", network.router.name, "monitor", "route")
    with news.open("w") as file, subprocess.Popen(monitor, stdout=file) as process:
        hear(network.router, news)
        with daemon(network.balancers[1], network.folders[1], VIP4, VIP6) as back:
            os.kill(daemons[0].pid, signal.SIGKILL)
            tell(back)
            assert any("bird_told" in line for line in back.stdout)
            time.sleep(2 * LIFETIME_S)  # what would expire does meanwhile
            ways = network.all_ways()
        process.terminate()

    assert BOTH == ways
    assert [] == [line for line in news.read_text().splitlines() if VIP4 in line or VIP6 in line]


# The contract, with a real bird. Only bird is in the namespace: its socket is a file.


class TestContract(AnnouncerContract):
    announcer = AnnounceBgp

    @pytest.fixture(autouse=True)
    def balancer(self, wires):
        self.namespace = wires.namespace("lb")
        for vip in VIPS:
            self.namespace.ip(
                "addr", "add", f"{vip.address}/{vip.address.max_prefixlen}", "dev", "lo"
            )

    def options(self, directory):
        return AnnounceBgpOptions(
            include_file=directory / "galelb.conf", control_socket=directory / "bird.ctl"
        )

    @asynccontextmanager
    async def network(self, directory):
        text = BALANCER.replace("@N@", "1").replace("@FOLDER@", str(directory))
        with bird(self.namespace, directory, text):
            while not (directory / "bird.ctl").exists():
                await trio.sleep(0.01)
            yield

    def announced(self, directory):
        command = ("birdc", "-r", "-s", "bird.ctl", "show", "route")
        shown = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
        words = (line.split()[0] for line in shown.stdout.splitlines() if "/" in line.split(" ")[0])
        return frozenset(word.partition("/")[0] for word in words)

    async def test_one_more_vip_does_not_disturb_the_others(self, tmp_path):
        async with self.running(tmp_path) as announcer:
            announcer.announce(VIPS[:1])
            await self.heard(tmp_path, frozenset({VIP4}))
            before = self.route_to_first(tmp_path)
            announcer.announce(VIPS)
            await self.heard(tmp_path, frozenset(str(vip.address) for vip in VIPS))

            assert before == self.route_to_first(tmp_path)

    def route_to_first(self, directory):
        """Return bird's route, with the time since when it has it."""
        command = ("birdc", "-r", "-s", "bird.ctl", "show", "route", f"{VIP4}/32")
        return subprocess.run(command, cwd=directory, capture_output=True, check=True).stdout

    async def test_the_network_that_a_vip_is_in_is_not_announced(self, tmp_path):
        self.namespace.ip("addr", "add", "198.51.100.7/24", "dev", "lo")
        inside = Held(address=ip_address("198.51.100.7"), interface="lo", kind=HeldKind.VIP)
        async with self.running(tmp_path) as announcer:
            announcer.announce([inside, VIPS[0]])
            await self.heard(tmp_path, frozenset({VIP4}))


async def test_a_configuration_that_bird_refuses_is_told(tmp_path, wires):
    namespace = wires.namespace("lb")
    with bird(namespace, tmp_path, BALANCER.replace("@N@", "1").replace("@FOLDER@", str(tmp_path))):
        with trio.fail_after(LIMIT_S):
            while not (tmp_path / "bird.ctl").exists():
                await trio.sleep(0.01)
        (tmp_path / "bird.conf").write_text("nonsense")
        async with open_bird(tmp_path / "bird.ctl") as connection:
            with pytest.raises(Exception, match=r"bird refuses: .*bird\.conf:1:1 syntax error"):
                await connection.configure()


# The page


def configurations():
    """Return the configurations for bird on the page, of a balancer and of the router."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [block for block in blocks if block.startswith("router id")]


@pytest.mark.parametrize("number", [0, 1])
def test_bird_takes_what_the_page_says(tmp_path, number):
    text = configurations()[number].replace("/run/bird/", f"{tmp_path}/")
    (tmp_path / "bird.conf").write_text(text)

    done = subprocess.run(
        ("bird", "-p", "-c", "bird.conf"), cwd=tmp_path, capture_output=True, text=True
    )

    assert (0, "") == (done.returncode, done.stderr)


def test_the_page_includes_what_the_announcer_writes():
    default = AnnounceBgpOptions()

    assert f'include "{include_pattern(default.include_file)}";' in configurations()[0]
