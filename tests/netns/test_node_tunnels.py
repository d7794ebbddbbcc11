# SPDX-License-Identifier: Apache-2.0
"""What the agent does on a node so that tunnels end there, and what it leaves behind: nothing."""

import socket
from ipaddress import ip_address

import pytest
import structlog
import trio
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from galelb.bpf.attach import detach_xdp, query_xdp
from galelb.lab.mounts import mounts_below
from galelb.model import HealthStatus, XdpMode
from galelb.netlink import open_netlink
from galelb.node.health import LocalHealth
from galelb.node.host import NodeHost
from galelb.node.wire import Advice, Setup
from galelb.testing.kernel import Sandbox

pytestmark = pytest.mark.netns

VIP = {4: "192.0.2.80", 6: "2001:db8:80::1"}
LB = {4: "10.77.0.1", 6: "fd77::1"}
NODE = {4: "10.77.0.2", 6: "fd77::2"}
CLIENT = {4: "198.51.100.5", 6: "2001:db8:5::5"}
PORT = 6080
KINDS = {"ipip": ("decap_ipip", 0), "gue": ("decap_gue", PORT)}
FOREIGN = """
int foreign(struct xdp_md *ctx)
{
	return XDP_PASS;
}
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make_host(tmp_path, cache):
    def make(*, configure=True, health=None, interfaces=(), balancers=("lb1",)) -> NodeHost:
        return NodeHost(
            health or LocalHealth(()),
            configure=configure,
            record=tmp_path / "run" / "node.json",
            balancers=balancers,
            interfaces=interfaces,
            cache=cache,
        )

    (tmp_path / "run").mkdir()
    yield make
    assert [] == mounts_below(tmp_path)
    assert [] == list((tmp_path / "run").iterdir())


def advice(encap="ipip", *, vips=(VIP[4], VIP[6]), source=LB[4]) -> Advice:
    kind, port = KINDS[encap]
    setups = [Setup("vip_on_lo", vip) for vip in vips]
    setups += [Setup(kind, vip, port) for vip in vips]
    return Advice(checks_timeout=1, setups=tuple(setups), version="1", source=ip_address(source))


def nothing() -> Advice:
    return Advice(checks_timeout=1, version="2", source=ip_address(LB[4]))


def run(machine, function):
    """Run `function(nursery)` inside, then cancel what it started: that leaves all as it is."""

    async def main():
        async with trio.open_nursery() as nursery:
            await function(nursery)
            nursery.cancel_scope.cancel()

    machine.trio(main)


def state(machine) -> str:
    """Everything that the agent could change."""
    sysctls = machine.call("sysctl", "-a", "-r", r"conf\..*\.(arp_|rp_|disable_ipv6)")
    links = machine.ip("-details", "link", "show", "dev", "node0")
    gro = machine.call("ethtool", "-k", "node0")
    return machine.ip("-brief", "address") + sysctls + links + gro


def attached(machine, device="node0"):
    return machine.thread(lambda: query_xdp(socket.if_nametoindex(device)))


def tunnelled(encap: str, outer: int, inner: int, mac: str, load: bytes) -> bytes:
    head = {4: IP, 6: IPv6}
    packet = head[inner](src=CLIENT[inner], dst=VIP[inner]) / UDP(sport=7, dport=9) / Raw(load)
    number = 17 if encap == "gue" else {4: 4, 6: 41}[inner]
    which = {"proto": number} if outer == 4 else {"nh": number}
    around = head[outer](src=LB[outer], dst=NODE[outer], **which)
    if encap == "gue":
        around = around / UDP(sport=50000, dport=PORT, chksum=0)
    return bytes(Ether(dst=mac, src="02:00:00:00:00:77") / around / Raw(bytes(packet)))


def send(lb, frame: bytes) -> None:
    def inside():
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind(("lb0", 0))
            sock.send(frame)

    lb.thread(inside)


async def delivered(lb, version: int, frame: bytes) -> bytes:
    """Send a frame to the node and return what its service at the VIP gets, and from whom."""
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with trio.socket.socket(family, socket.SOCK_DGRAM) as service:
        await service.bind((VIP[version], 9))
        send(lb, frame)
        with trio.fail_after(20):
            data, client = await service.recvfrom(10_000)
    assert CLIENT[version] == client[0]
    return data


def route_clients(machine) -> None:
    """A real node has a way to its clients; without one the kernel takes nothing from them."""
    machine.ip("route", "add", "198.51.100.0/24", "dev", "lo")
    machine.ip("-6", "route", "add", "2001:db8:5::/64", "dev", "lo")


@pytest.mark.parametrize("encap", KINDS)
def test_packets_of_every_family_reach_the_service(pair, make_host, encap):
    lb, node = pair
    route_clients(node)
    before, mac, seen = state(node), node.mac("node0"), []

    async def play(nursery):
        agent = make_host()
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice(encap))
        for outer in (4, 6):
            for inner in (4, 6):
                load = f"{outer}{inner}".encode()
                frame = tunnelled(encap, outer, inner, mac, load)
                seen.append(await delivered(lb, inner, frame))
        await agent.leave()

    run(node, play)

    assert [b"44", b"46", b"64", b"66"] == seen
    assert before == state(node)


def test_ipv4_comes_in_ipv6_where_there_is_no_ipv4(pair, make_host):
    lb, node = pair
    node.ip("addr", "del", f"{NODE[4]}/24", "dev", "node0")
    route_clients(node)
    node.call("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
    before, mac, seen = state(node), node.mac("node0"), []

    async def play(nursery):
        agent = make_host()
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice(source=LB[6]))
        seen.append(await delivered(lb, 4, tunnelled("ipip", 6, 4, mac, b"here")))
        await agent.leave()

    run(node, play)

    assert [b"here"] == seen
    assert before == state(node)


def test_ipv6_comes_in_ipv4_where_there_was_no_ipv6(pair, make_host):
    lb, node = pair
    node.call("sysctl", "-qw", "net.ipv6.conf.node0.disable_ipv6=1")
    route_clients(node)
    before, mac, seen = state(node), node.mac("node0"), []

    async def play(nursery):
        agent = make_host()
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice())
        seen.append(await delivered(lb, 6, tunnelled("ipip", 4, 6, mac, b"here")))
        await agent.leave()

    run(node, play)

    assert [b"here"] == seen
    assert before == state(node)


def test_after_a_crash_packets_go_on_and_the_next_agent_takes_over(pair, make_host):
    lb, node = pair
    route_clients(node)
    before, mac, seen = state(node), node.mac("node0"), []

    async def crash(nursery):
        agent = make_host()
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice())

    async def between(nursery):
        seen.append(await delivered(lb, 4, tunnelled("ipip", 4, 4, mac, b"orphan")))

    async def again(nursery):
        agent = make_host()
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice())
        seen.append(await delivered(lb, 4, tunnelled("ipip", 4, 4, mac, b"adopted")))
        programs.append(query_xdp(socket.if_nametoindex("node0")))
        await agent.leave()

    run(node, crash)
    programs = [attached(node)]
    run(node, between)
    run(node, again)

    assert [b"orphan", b"adopted"] == seen
    assert programs[0] == programs[1] is not None
    assert XdpMode.NATIVE is programs[0].mode
    assert before == state(node)


def test_after_a_crash_what_nobody_wants_is_taken_off(pair, make_host):
    _, node = pair
    before, seen = state(node), []

    async def crash(nursery):
        agent = make_host()
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice())

    async def again(nursery):
        agent = make_host(balancers=("lb1", "lb2"))
        await nursery.start(agent.run)
        await agent.prepare("lb1", nothing())
        seen.append(query_xdp(socket.if_nametoindex("node0")))
        await agent.prepare("lb2", nothing())

    run(node, crash)
    run(node, again)

    assert seen[0] is not None, "lb2 might still want it"
    assert before == state(node)


def test_a_reload_of_the_balancer_changes_what_is_unpacked(pair, make_host):
    lb, node = pair
    route_clients(node)
    before, mac, seen = state(node), node.mac("node0"), []

    async def play(nursery):
        agent = make_host()
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice("ipip"))
        await agent.prepare("lb1", advice("gue"))
        send(lb, tunnelled("ipip", 4, 4, mac, b"ipip"))
        seen.append(await delivered(lb, 4, tunnelled("gue", 4, 4, mac, b"gue")))
        await agent.prepare("lb1", nothing())

    run(node, play)

    assert [b"gue"] == seen
    assert before == state(node)


@pytest.mark.parametrize("name", ["foreign", "gale_other"])
def test_a_program_of_somebody_else_is_left_alone_and_told(pair, make_host, name):
    """One whose name begins like ours is another galelb's, perhaps a balancer's."""
    _, node = pair
    health, seen = LocalHealth(()), []
    with Sandbox() as sandbox:
        source = FOREIGN.replace("foreign", name)
        pin = sandbox.compile(source, {name: "xdp"}).programs[name].pin
        node.call("ip", "link", "set", "dev", "node0", "xdp", "pinned", str(pin))
        theirs = attached(node)

        async def play(nursery):
            agent = make_host(health=health)
            await nursery.start(agent.run)
            await agent.prepare("lb1", advice())
            seen.append((health.status, health.message))
            node.ip("link", "set", "dev", "node0", "xdpdrv", "off")
            await agent.prepare("lb1", advice("gue"))
            seen.append((health.status, health.message))
            node.ip("link", "set", "dev", "node0", "xdpdrv", "off")
            node.call("ip", "link", "set", "dev", "node0", "xdp", "pinned", str(pin))
            await agent.leave()

        run(node, play)
        left = attached(node)

    status, message = seen[0]
    assert HealthStatus.NOT_SERVING is status
    assert f"XDP program {name} " in message
    assert "ip link set dev node0 xdpdrv off" in message
    assert (HealthStatus.SERVING, "") == seen[1]
    assert theirs.name == left.name


def test_a_balancer_of_this_machine_keeps_its_interface(pair, make_host):
    from galelb.datapath.claims import claim

    _, node = pair
    health = LocalHealth(())

    async def play(nursery):
        with claim("node0"):
            agent = make_host(health=health)
            await nursery.start(agent.run)
            await agent.prepare("lb1", advice())
        await agent.leave()

    run(node, play)

    assert "node0 belongs to a balancer of this machine" in health.message
    assert attached(node) is None


def test_where_native_xdp_is_impossible_it_is_generic_without_gro(wires, make_host):
    lb, node = wires.namespace("lb"), wires.namespace("node")
    wires.join(lb, "lb0", node, "node0")
    lb.ip("addr", "add", f"{LB[4]}/24", "dev", "lb0")
    node.ip("link", "add", "br0", "type", "bridge")
    node.ip("link", "set", "br0", "up")
    node.ip("link", "set", "node0", "master", "br0")
    node.ip("addr", "add", f"{NODE[4]}/24", "dev", "br0")
    route_clients(node)
    mac, seen = node.mac("br0"), []

    def gro() -> str:
        return next(
            line for line in node.call("ethtool", "-k", "br0").splitlines() if "generic-rec" in line
        )

    async def play(nursery):
        agent = make_host()
        await nursery.start(agent.run)
        before = gro()
        await agent.prepare("lb1", advice())
        seen.append((query_xdp(socket.if_nametoindex("br0")).mode, gro()))
        seen.append(await delivered(lb, 4, tunnelled("ipip", 4, 4, mac, b"slow")))
        await agent.leave()
        seen.append(before == gro())

    run(node, play)

    assert [(XdpMode.GENERIC, "generic-receive-offload: off"), b"slow", True] == seen


def test_jumbo_frames_come_by_native_xdp(pair, make_host):
    lb, node = pair
    for machine, device in ((lb, "lb0"), (node, "node0")):
        machine.ip("link", "set", device, "mtu", "9000")
    route_clients(node)
    mac, seen, load = node.mac("node0"), [], bytes(range(250)) * 35

    async def play(nursery):
        agent = make_host()
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice())
        seen.append(query_xdp(socket.if_nametoindex("node0")).mode)
        seen.append(await delivered(lb, 4, tunnelled("ipip", 4, 4, mac, load)))
        await agent.leave()

    run(node, play)

    assert [XdpMode.NATIVE, load] == seen


def test_another_program_of_a_new_version_takes_over(pair, make_host, tmp_path, monkeypatch):
    lb, node = pair
    route_clients(node)
    before, mac, seen = state(node), node.mac("node0"), []

    async def crash(nursery):
        agent = make_host()
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice())

    async def again(nursery):
        agent = make_host()
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice())
        seen.append(await delivered(lb, 4, tunnelled("ipip", 4, 4, mac, b"new")))
        programs.append(query_xdp(socket.if_nametoindex("node0")))
        pins.extend(one.name for one in (tmp_path / "run/node.tunnels/bpf").glob("prog-*"))
        await agent.leave()

    with monkeypatch.context() as older:
        older.setattr("galelb.node.decap_program._MOST_OUTER", 64)
        run(node, crash)
    programs, pins = [attached(node)], []
    run(node, again)

    assert [b"new"] == seen
    assert programs[0].program_id != programs[1].program_id
    assert 1 == len(pins), "nothing of the older one is left"
    assert before == state(node)


def test_where_tunnels_come_in_can_be_configured(pair, make_host):
    _, node = pair
    node.ip("link", "add", "other0", "type", "veth", "peer", "name", "other1")
    health, seen = LocalHealth(()), []

    async def play(nursery):
        agent = make_host(health=health, interfaces=("other0", "absent0"))
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice())
        for device in ("node0", "other0"):
            seen.append(query_xdp(socket.if_nametoindex(device)) is not None)
        await agent.leave()

    run(node, play)

    assert [False, True] == seen
    assert "host: there is no interface absent0: mend [node] interfaces" == health.message


def test_a_balancer_that_no_interface_leads_to_is_told(pair, make_host):
    _, node = pair
    health = LocalHealth(())

    async def play(nursery):
        agent = make_host(health=health)
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice(source=NODE[4]))
        await agent.leave()

    run(node, play)

    assert "no interface leads to a balancer" in health.message
    assert "[node] interfaces" in health.message


def test_without_leave_to_configure_it_says_what_to_do(pair, make_host):
    _, node = pair
    before, health = state(node), LocalHealth(())

    async def play(nursery):
        agent = make_host(configure=False, health=health)
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice(vips=(VIP[4],)))

    with structlog.testing.capture_logs() as events:
        run(node, play)

    mends = [event["mend"] for event in events if event["event"] == "host_lacks"]
    assert "modprobe ipip && ip link set tunl0 up" in mends
    assert HealthStatus.NOT_SERVING is health.status
    assert (
        f"host: packets to {VIP[4]} come inside IP packets and stay there:"
        " modprobe ipip && ip link set tunl0 up, or set configure_host = true" in health.message
    )
    assert before == state(node)


def test_a_crashed_agent_s_program_goes_when_the_next_may_not_configure(pair, make_host):
    _, node = pair
    before = state(node)

    async def crash(nursery):
        agent = make_host()
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice())

    async def again(nursery):
        await nursery.start(make_host(configure=False).run)

    run(node, crash)
    run(node, again)

    assert before == state(node)


def test_a_program_that_was_taken_off_comes_back(pair, make_host, autojump_clock):
    """The agent looks again now and then; here its clock runs as fast as it can."""
    _, node = pair
    seen = []

    async def look():
        async with open_netlink() as netlink:
            index = (await netlink.interface("node0")).ifindex
            return await netlink.call(query_xdp, index)

    async def play(nursery):
        agent = make_host()
        await nursery.start(agent.run)
        await agent.prepare("lb1", advice())
        detach_xdp(socket.if_nametoindex("node0"), "node0")
        seen.append(await look())
        while await look() is None:
            await trio.sleep(1)
        await agent.leave()

    run(node, play)

    assert [None] == seen
