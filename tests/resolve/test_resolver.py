# SPDX-License-Identifier: Apache-2.0
"""The resolver over a kernel of paper, in virtual time."""

from ipaddress import ip_address, ip_network

import pytest
import trio
from structlog.testing import capture_logs

from galelb.errors import NetlinkError
from galelb.model import Interface, NextHop
from galelb.netlink import (
    LinkChanged,
    Neighbour,
    NeighbourChanged,
    NeighbourState,
    Overflow,
    Route,
    RouteChanged,
)
from galelb.resolve.next_hops import NextHopTable
from galelb.resolve.resolver import (
    LOOKS_AT_ONCE,
    LOST_S,
    PROBE_FIRST_S,
    REFRESH_S,
    NodeResolver,
)

NODE, OTHER, GATEWAY = (ip_address(f"10.0.0.{last}") for last in (2, 3, 254))
FAR = ip_address("192.0.2.7")
LB_MAC, MAC, NEW_MAC = (f"02:00:00:00:00:{last}" for last in ("01", "02", "22"))


class PaperKernel:
    """Routes, links and neighbours as dicts; the hosts in `alive` answer when asked."""

    def __init__(self):
        self.links = {2: Interface(name="eth0", ifindex=2, mac=LB_MAC, mtu=1500)}
        self.routes = {ip_network("10.0.0.0/24"): Route(ifindex=2)}
        self.table = {}
        self.alive = {}
        self.probes = []
        self.released = []
        self.dumps = 0
        self.answers_after = 0.0
        self.asked = self.most_asked = 0
        self.send, self.receive = trio.open_memory_channel(1000)

    async def _answer(self):
        self.asked += 1
        self.most_asked = max(self.asked, self.most_asked)
        await trio.sleep(self.answers_after)
        self.asked -= 1

    async def route_to(self, address):
        await self._answer()
        matches = [n for n in self.routes if address.version == n.version and address in n]
        if not matches:
            raise NetlinkError(f"route to {address}: Network is unreachable")
        return self.routes[max(matches, key=lambda n: n.prefixlen)]

    async def probe(self, ifindex, address, *, keep=True):
        await self._answer()
        self.probes.append((ifindex, address, keep))
        if address in self.alive and (ifindex, address) not in self.table:
            self.neighbour(ifindex, address, self.alive[address])

    async def release(self, ifindex, address):
        await trio.lowlevel.checkpoint()
        self.released.append((ifindex, address))

    async def interfaces(self):
        await trio.lowlevel.checkpoint()
        return {link.name: link for link in self.links.values()}

    async def neighbours(self):
        await trio.lowlevel.checkpoint()
        self.dumps += 1
        return [
            Neighbour(ifindex=i, address=a, mac=mac, state=NeighbourState.REACHABLE)
            for (i, a), mac in self.table.items()
        ]

    def events(self):
        return self.receive

    def tell(self, event):
        self.send.send_nowait(event)

    def neighbour(self, ifindex, address, mac, state=NeighbourState.REACHABLE, *, removed=False):
        """Change the neighbour table and announce it."""
        if mac is None:
            self.table.pop((ifindex, address), None)
        else:
            self.table[ifindex, address] = mac
        self.tell(
            NeighbourChanged(
                ifindex=ifindex, address=address, mac=mac, state=state, removed=removed
            )
        )

    def route(self, prefix, route):
        """Change the routing table and announce it."""
        network = ip_network(prefix)
        self.routes[network] = route
        if route is None:
            del self.routes[network]
        default = network.prefixlen == 0
        self.tell(
            RouteChanged(
                family=2 if network.version == 4 else 10,
                table=254,
                destination=None if default else network.network_address,
                prefix=network.prefixlen,
                ifindex=route and route.ifindex,
                removed=route is None,
            )
        )

    def link(self, ifindex=2, *, mac=LB_MAC, mtu=1500, up=True, removed=False):
        """Announce a link."""
        self.tell(
            LinkChanged(ifindex=ifindex, name="eth0", mac=mac, mtu=mtu, up=up, removed=removed)
        )


class World:
    """A resolver that runs over a kernel of paper, and what it told."""

    def __init__(self):
        self.kernel = PaperKernel()
        self.hops = NextHopTable(64)
        self.told = []
        self.rewrites = 0
        self.resolver = NodeResolver(
            self.kernel,
            self.hops,
            on_change=lambda address, hop, mac: self.told.append((address, hop, mac)),
            on_next_hops=self._rewrite,
        )

    def _rewrite(self):
        self.rewrites += 1

    def learn(self, mac=NEW_MAC):
        return self.hops.client_hop(2, mac, LB_MAC, 1500)

    def clients(self):
        return self.hops.statistics()["clients_valid"]


def hop(mac=MAC, *, mtu=1500, src=LB_MAC, ifindex=2):
    return NextHop(ifindex=ifindex, dst_mac=mac, src_mac=src, mtu=mtu)


async def settled():
    await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
def world():
    return World()


@pytest.fixture
async def running(world, nursery):
    """Run the resolver with NODE watched, alive and resolved."""
    world.kernel.alive[NODE] = MAC
    world.resolver.watch(NODE)
    await nursery.start(world.resolver.run)
    await settled()
    assert [(NODE, hop(), MAC)] == world.told
    world.told.clear()
    return world


async def test_a_node_is_asked_for_and_bound_before_it_is_told(running, autojump_clock):
    assert [(2, NODE, True)] == running.kernel.probes
    assert 0 != running.hops.node_index(NODE)
    assert hop() == running.resolver.hop(NODE)
    assert "" == running.resolver.problem(NODE)


async def test_a_known_neighbour_counts_at_once_and_is_kept(world, nursery, autojump_clock):
    world.kernel.table[2, NODE] = MAC
    world.resolver.watch(NODE)

    await nursery.start(world.resolver.run)

    assert [(NODE, hop(), MAC)] == world.told
    assert [(2, NODE, True)] == world.kernel.probes


async def test_nodes_that_join_at_once_do_not_wait_for_one_another(world, nursery, autojump_clock):
    nodes = [ip_address(f"10.0.0.{last}") for last in range(2, 202)]
    world.kernel.alive = dict.fromkeys(nodes, MAC)
    world.kernel.answers_after = 1.0
    for node in nodes:
        world.resolver.watch(node)

    await nursery.start(world.resolver.run)
    await settled()

    assert set(nodes) == {address for address, _, _ in world.told}
    assert 2 * len(nodes) / LOOKS_AT_ONCE <= trio.current_time() <= len(nodes) / 10
    assert LOOKS_AT_ONCE == world.kernel.most_asked


async def test_a_new_mac_is_told_without_asking_anybody(running, autojump_clock):
    asked = len(running.kernel.probes)

    running.kernel.neighbour(2, NODE, NEW_MAC)
    await settled()

    assert [(NODE, hop(NEW_MAC), NEW_MAC)] == running.told
    assert asked == len(running.kernel.probes)


async def test_the_same_mac_in_another_state_is_no_news(running, autojump_clock):
    running.kernel.neighbour(2, NODE, MAC, NeighbourState.STALE)
    await settled()

    assert [] == running.told


async def test_a_silent_node_is_asked_at_growing_intervals(world, nursery, autojump_clock):
    world.resolver.watch(NODE)
    await nursery.start(world.resolver.run)
    await trio.sleep(PROBE_FIRST_S * 7.5)
    early = len(world.kernel.probes)
    await trio.sleep(120)

    assert 4 == early  # at 0, 1, 3 and 7 times the first interval
    assert 15 <= len(world.kernel.probes) <= 24
    assert [] == world.told
    assert "10.0.0.2 does not answer on eth0" == world.resolver.problem(NODE)


async def test_a_node_that_comes_up_is_told_when_the_kernel_learns_it(
    world, nursery, autojump_clock
):
    world.resolver.watch(NODE)
    await nursery.start(world.resolver.run)
    await trio.sleep(60)

    world.kernel.neighbour(2, NODE, MAC)
    await settled()

    assert [(NODE, hop(), MAC)] == world.told


async def test_a_node_that_stops_answering_is_given_a_second(running, autojump_clock):
    del running.kernel.alive[NODE]
    start = trio.current_time()

    running.kernel.neighbour(2, NODE, None, NeighbourState.FAILED)
    await settled()
    before = list(running.told)
    with capture_logs() as logs:
        await trio.sleep(LOST_S + 0.01)

    assert [] == before
    assert [(NODE, None, None)] == running.told
    assert trio.current_time() - start == pytest.approx(LOST_S, abs=0.1)
    assert "node_unresolved" in {entry["event"] for entry in logs}
    assert 0 == running.hops.node_index(NODE)


async def test_a_node_whose_entry_was_flushed_is_asked_again_and_never_lost(
    running, autojump_clock
):
    running.kernel.neighbour(2, NODE, None, NeighbourState.STALE, removed=True)
    await trio.sleep(10)

    assert [] == running.told
    assert [(2, NODE, True)] * 2 == running.kernel.probes


async def test_a_node_behind_a_gateway_uses_the_gateways_mac(running, autojump_clock):
    running.kernel.alive[GATEWAY] = NEW_MAC
    running.kernel.routes[ip_network("192.0.2.0/24")] = Route(ifindex=2, gateway=GATEWAY, mtu=1400)

    running.resolver.watch(FAR)
    await settled()

    assert [(FAR, hop(NEW_MAC, mtu=1400), NEW_MAC)] == running.told
    assert (GATEWAY, None) == (running.resolver.gateway(FAR), running.resolver.gateway(NODE))


async def test_a_changed_route_moves_a_node_to_its_new_gateway(running, autojump_clock):
    running.kernel.alive[GATEWAY] = NEW_MAC

    running.kernel.route("10.0.0.2/32", Route(ifindex=2, gateway=GATEWAY))
    await settled()

    assert [(NODE, hop(NEW_MAC), NEW_MAC)] == running.told
    assert [(2, NODE)] == running.kernel.released


async def test_a_node_without_a_route_is_lost_and_says_why(running, autojump_clock):
    running.kernel.route("10.0.0.0/24", None)
    await trio.sleep(LOST_S + 0.01)

    assert [(NODE, None, None)] == running.told
    assert "route to 10.0.0.2: Network is unreachable" == running.resolver.problem(NODE)

    running.kernel.route("0.0.0.0/0", Route(ifindex=2))
    await settled()

    assert (NODE, hop(), MAC) == running.told[-1]


async def test_routing_rules_that_nobody_announces_are_noticed_in_time(running, autojump_clock):
    running.kernel.alive[GATEWAY] = NEW_MAC
    running.kernel.routes[ip_network("10.0.0.2/32")] = Route(ifindex=2, gateway=GATEWAY)

    await trio.sleep(REFRESH_S + 1)

    assert [(NODE, hop(NEW_MAC), NEW_MAC)] == running.told


async def test_a_links_new_mac_and_mtu_reach_its_nodes(running, autojump_clock):
    running.kernel.link(mac="02:00:00:00:00:0f", mtu=9000)
    await settled()

    assert [(NODE, hop(mtu=9000, src="02:00:00:00:00:0f"), MAC)] == running.told


async def test_a_link_without_carrier_loses_its_nodes_until_it_returns(running, autojump_clock):
    running.kernel.link(up=False)
    await trio.sleep(LOST_S + 0.01)

    assert [(NODE, None, None)] == running.told
    assert "interface 2 on the way to it is down" == running.resolver.problem(NODE)

    running.kernel.link()
    await settled()

    assert (NODE, hop(), MAC) == running.told[-1]


async def test_an_unchanged_link_is_no_news(running, autojump_clock):
    index = running.learn()

    running.kernel.link()
    await trio.sleep(1)

    assert 1 == running.clients()
    assert index == running.learn()
    assert [] == running.told


async def test_a_configured_mac_is_believed_without_asking(world, nursery, autojump_clock):
    world.resolver.watch(NODE, NEW_MAC)

    await nursery.start(world.resolver.run)
    world.kernel.neighbour(2, NODE, MAC)
    await settled()

    assert [(NODE, hop(NEW_MAC), NEW_MAC)] == world.told
    assert [] == world.kernel.probes


async def test_a_configured_mac_can_change(running, autojump_clock):
    running.resolver.watch(NODE, NEW_MAC)
    await settled()
    running.resolver.watch(NODE, NEW_MAC)
    running.resolver.watch(NODE)
    await settled()

    assert [NEW_MAC, MAC] == [mac for _, _, mac in running.told]


async def test_a_configured_mac_means_nothing_behind_a_gateway(running, autojump_clock):
    running.kernel.alive[GATEWAY] = NEW_MAC
    running.kernel.routes[ip_network("192.0.2.0/24")] = Route(ifindex=2, gateway=GATEWAY)

    with capture_logs() as logs:
        running.resolver.watch(FAR, "02:00:00:00:00:77")
        await settled()

    assert [(FAR, hop(NEW_MAC), NEW_MAC)] == running.told
    assert ["static_mac_ignored"] == [e["event"] for e in logs if e["log_level"] == "warning"]


async def test_a_forgotten_node_is_released_and_not_told_of(running, autojump_clock):
    running.resolver.forget(NODE)
    running.resolver.forget(OTHER)
    await settled()
    running.kernel.neighbour(2, NODE, NEW_MAC)
    await settled()

    assert [(2, NODE)] == running.kernel.released
    assert [] == running.told
    assert 0 == running.hops.node_index(NODE)
    assert running.resolver.hop(NODE) is None
    assert "not watched" == running.resolver.problem(NODE)


async def test_a_gateway_is_released_with_its_last_node(running, autojump_clock):
    running.kernel.alive[GATEWAY] = NEW_MAC
    running.kernel.routes[ip_network("192.0.2.0/24")] = Route(ifindex=2, gateway=GATEWAY)
    for last in (7, 8):
        running.resolver.watch(ip_address(f"192.0.2.{last}"))
    await settled()

    running.resolver.forget(FAR)
    await settled()
    first = list(running.kernel.released)
    running.resolver.forget(ip_address("192.0.2.8"))
    await settled()

    assert [] == first
    assert [(2, GATEWAY)] == running.kernel.released


async def test_a_node_forgotten_by_a_callback_does_no_harm(world, nursery, autojump_clock):
    world.kernel.alive[NODE] = MAC
    world.resolver._on_change = lambda address, hop, mac: world.resolver.forget(address)
    world.resolver.watch(NODE)

    await nursery.start(world.resolver.run)
    await settled()

    assert world.resolver.hop(NODE) is None


async def test_an_overflow_means_reading_everything_again(running, autojump_clock):
    running.learn()
    running.kernel.table[2, NODE] = NEW_MAC

    running.kernel.tell(Overflow())
    await settled()

    assert [(NODE, hop(NEW_MAC), NEW_MAC)] == running.told
    assert 2 == running.kernel.dumps
    assert 0 == running.clients()


async def test_a_failed_read_is_tried_again(running, autojump_clock):
    async def refuse():
        running.kernel.interfaces = interfaces
        raise NetlinkError("no")

    interfaces, running.kernel.interfaces = running.kernel.interfaces, refuse
    running.kernel.table[2, NODE] = NEW_MAC
    running.kernel.tell(Overflow())
    await trio.sleep(2)

    assert [(NODE, hop(NEW_MAC), NEW_MAC)] == running.told


async def test_an_event_that_came_during_a_read_wins_over_what_was_read(running, autojump_clock):
    async def stale():
        entries = await neighbours()
        running.kernel.neighbour(2, NODE, NEW_MAC)
        await settled_others()
        return entries

    async def settled_others():
        for _ in range(10):
            await trio.lowlevel.checkpoint()

    neighbours, running.kernel.neighbours = running.kernel.neighbours, stale
    running.kernel.tell(Overflow())
    await settled()

    assert [(NODE, hop(NEW_MAC), NEW_MAC)] == running.told


# clients


async def test_a_route_change_withdraws_clients_and_says_so(running, autojump_clock):
    running.learn()

    running.kernel.route("198.51.100.0/24", Route(ifindex=2, gateway=GATEWAY))
    await settled()

    assert 0 == running.clients()
    assert 1 == running.rewrites


async def test_a_storm_of_routes_withdraws_clients_a_few_times_only(running, autojump_clock):
    for prefix in range(200):
        running.learn()
        running.kernel.route(f"198.51.{prefix}.0/24", Route(ifindex=2, gateway=GATEWAY))
        await trio.sleep(0.005)
    await trio.sleep(1)

    assert 0 == running.clients()
    assert 4 <= running.rewrites <= 6


async def test_a_node_that_moves_in_a_storm_of_routes_is_noticed(running, autojump_clock):
    running.kernel.alive[GATEWAY] = NEW_MAC
    for prefix in range(200):
        running.kernel.route(f"198.51.{prefix}.0/24", Route(ifindex=2, gateway=GATEWAY))
    running.kernel.route("10.0.0.2/32", Route(ifindex=2, gateway=GATEWAY))

    await trio.sleep(2)

    assert [(NODE, hop(NEW_MAC), NEW_MAC)] == running.told


@pytest.mark.parametrize("prefix", ["fe80::/64", "ff00::/8"])
async def test_routes_that_come_with_any_interface_withdraw_nothing(
    running, autojump_clock, prefix
):
    running.learn()

    running.kernel.route(prefix, Route(ifindex=9))
    await trio.sleep(1)

    assert 1 == running.clients()


async def test_a_gateway_with_a_new_mac_withdraws_the_old_one_only(running, autojump_clock):
    running.kernel.neighbour(2, GATEWAY, MAC)
    await settled()
    running.learn(MAC)
    running.learn(NEW_MAC)

    running.kernel.neighbour(2, GATEWAY, "02:00:00:00:00:99")
    await settled()

    assert 1 == running.clients()
    assert 1 == running.rewrites


async def test_a_neighbour_that_was_dropped_for_its_age_withdraws_nothing(running, autojump_clock):
    running.kernel.neighbour(2, GATEWAY, NEW_MAC)
    await settled()
    running.learn()

    running.kernel.neighbour(2, GATEWAY, None, NeighbourState.STALE, removed=True)
    await settled()

    assert 1 == running.clients()


async def test_waking_for_a_client_asks_for_its_gateway_at_growing_intervals(
    running, autojump_clock
):
    running.kernel.probes.clear()
    running.kernel.routes[ip_network("0.0.0.0/0")] = Route(ifindex=2, gateway=GATEWAY)

    for _ in range(100):
        running.resolver.wake(FAR)
        running.resolver.wake(OTHER)
        await trio.sleep(0.01)

    assert {(2, GATEWAY, True), (2, OTHER, False)} == set(running.kernel.probes)
    assert 6 == len(running.kernel.probes)  # at 0, 0.2 and 0.6 s


async def test_waking_for_a_client_without_a_route_is_harmless(running, autojump_clock):
    running.resolver.wake(ip_address("2001:db8::1"))
    await settled()

    assert [(2, NODE, True)] == running.kernel.probes


async def test_waking_for_a_node_looks_at_it_again(running, autojump_clock):
    running.kernel.routes[ip_network("10.0.0.2/32")] = Route(ifindex=2, mtu=1300)

    running.resolver.wake(NODE)
    await settled()

    assert [(NODE, hop(mtu=1300), MAC)] == running.told


async def test_a_crowd_of_clients_does_not_grow_without_bound(running, autojump_clock):
    for address in range(5000):
        running.resolver.wake(ip_address(0x0A000100 + address))
    await settled()

    assert len(running.kernel.probes) <= 1025


async def test_the_resolver_closes_its_stream_when_cancelled(world, autojump_clock):
    async with trio.open_nursery() as nursery:
        await nursery.start(world.resolver.run)
        nursery.cancel_scope.cancel()

    with pytest.raises(trio.ClosedResourceError):
        world.kernel.receive.receive_nowait()


async def test_a_full_array_leaves_a_node_unresolved_and_says_so(world, nursery, autojump_clock):
    world.hops = world.resolver._next_hops = NextHopTable(2)
    world.kernel.alive = {NODE: MAC, OTHER: NEW_MAC}

    with capture_logs() as logs:
        world.resolver.watch(NODE)
        await nursery.start(world.resolver.run)
        await settled()
        world.resolver.watch(OTHER)
        await settled()

    assert [(NODE, True), (OTHER, False)] == [(a, h is not None) for a, h, _ in world.told]
    assert ["next_hops_full"] == [e["event"] for e in logs if e["log_level"] == "error"]
    assert "no room for its next hop" in world.resolver.problem(OTHER)
