# SPDX-License-Identifier: Apache-2.0
"""Keeps the next hop of every node known, and of clients when a program asks.

XDP forwards past the kernel, so the kernel would let the neighbours of the nodes go stale.
The resolver makes it keep them, follows its announcements, and turns route + neighbour +
interface into NextHop values. Nothing is decided by polling; every node is looked at again
twice a minute all the same, since changes of routing rules are not announced to us.

A node whose MAC address changes is followed as soon as it says anything to us (its ARP request
or announcement). One that stays silent is noticed when the kernel doubts its entry: after up to
45 s, unless the health source noticed before.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, Callable, Sequence

import structlog
import trio

from galelb.errors import NetlinkError
from galelb.model import IPAddress, NextHop
from galelb.netlink import (
    LinkChanged,
    NeighbourChanged,
    NetlinkEvent,
    Overflow,
    RouteChanged,
)
from galelb.resolve.backoff import Limiter, backoff_s
from galelb.resolve.client_wakes import ClientWakes
from galelb.resolve.kernel_view import KernelView
from galelb.resolve.neighbourhood import Neighbourhood, WatchedNode, affected_by
from galelb.resolve.next_hops import NextHopTable
from galelb.resolve.targets import Targets

__all__ = ["NodeResolver"]

log = structlog.get_logger()

PROBE_FIRST_S = 0.2
PROBE_MOST_S = 8.0
LOST_S = 1.0
"""How long a next hop is kept after its neighbour stopped answering, while it is asked again."""
REFRESH_S = 30.0
INVALIDATE_S = 0.25
"""Least time between two withdrawals of all clients' next hops: a storm of routes is one."""
FEW_ROUTES = 50
STORM_S = 1.0
REREAD_S = 1.0
HELD_EVENTS = 20_000
NODES_WOKEN = 4096
LOOKS_AT_ONCE = 32
"""A thousand nodes that join at once must not wait for one answer of the kernel after the other:
each way to netlink's thread and back costs milliseconds while plans are made."""


class NodeResolver:
    """A component; see the module. All callbacks are called in trio's thread and must not block.

    `on_change(address, hop, mac)`: a node's next hop changed, and `next_hops` is already bound
    to it; None and None when it is lost. `on_next_hops()`: `next_hops` has other entries to
    write, because clients' objects were withdrawn.
    """

    def __init__(
        self,
        nl: KernelView,
        next_hops: NextHopTable,
        *,
        on_change: Callable[[IPAddress, NextHop | None, str | None], None],
        on_next_hops: Callable[[], None] = lambda: None,
    ) -> None:
        self._nl = nl
        self._next_hops = next_hops
        self._on_change = on_change
        self._on_next_hops = on_next_hops
        self._known = Neighbourhood()
        self._nodes: dict[IPAddress, WatchedNode] = {}
        self._targets = Targets()
        self._wakes = ClientWakes(nl)
        self._node_wakes: Limiter[IPAddress] = Limiter(
            NODES_WOKEN, first_s=PROBE_FIRST_S, most_s=PROBE_MOST_S
        )
        self._invalidated_at = -math.inf
        self._invalidate_at = math.inf
        self._routes_changed = 0
        """Since clients were withdrawn last."""
        self._look_at_all = math.inf
        self._reread = True
        self._held: list[NetlinkEvent] | None = None
        """Events that came while everything is read; they may be newer than what was read."""
        self._wakeup = trio.Event()

    # what the balancer calls

    def watch(self, address: IPAddress, mac: str | None = None) -> None:
        """Keep a node's next hop known; `mac` is from the configuration.

        A configured MAC is believed where the node is directly connected. Behind a gateway it
        means nothing, and is not used.
        """
        node = self._nodes.get(address)
        if node is None:
            self._nodes[address] = WatchedNode(address, mac)
        elif node.static_mac != mac:
            node.static_mac = mac
            node.look_at = -math.inf
        self._wakeup.set()

    def forget(self, address: IPAddress) -> None:
        """Stop watching a node and unbind it from its next hop; unknown is fine."""
        node = self._nodes.pop(address, None)
        if node is not None:
            self._targets.aim(address, None)
            self._next_hops.set_node(address, None)
            self._wakeup.set()

    def wake(self, address: IPAddress) -> None:
        """A program found no neighbour on the way to a node or client: ask for it now.

        Cheap to call for every event; the same address is asked for at growing intervals.
        """
        node = self._nodes.get(address)
        if node is None:
            due = self._wakes.wake(address)
        else:
            due = self._node_wakes.allow(address, trio.current_time())
            node.look_at = -math.inf if due else node.look_at
        if due:
            self._wakeup.set()

    def hop(self, address: IPAddress) -> NextHop | None:
        """Return a node's next hop, or None while it is unknown."""
        node = self._nodes.get(address)
        return node.hop if node is not None else None

    def gateway(self, address: IPAddress) -> IPAddress | None:
        """Return the router on the way to a node; None when there is none, or none is known."""
        node = self._nodes.get(address)
        return node.route.gateway if node is not None and node.route is not None else None

    def problem(self, address: IPAddress) -> str:
        """Return why a node has no next hop, for people; empty when it has one."""
        node = self._nodes.get(address)
        return node.problem if node is not None else "not watched"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled; started once every node was looked at for the first time."""
        events = self._nl.events()
        try:
            await self._pass()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow, events)
                task_status.started()
                while True:
                    await self._pass()
                    with trio.move_on_at(self._next_time()):
                        await self._wakeup.wait()
        finally:
            events.close()

    # the loop

    async def _follow(self, events: AsyncIterable[NetlinkEvent]) -> None:
        async for event in events:
            self._apply(event)

    async def _pass(self) -> None:
        """Do everything that is due."""
        self._wakeup = trio.Event()
        if self._reread:
            await self._read_all()
        now = trio.current_time()
        if self._invalidate_at <= now:
            self._invalidate()
        if self._look_at_all <= now:
            self._look_at_all = math.inf
            self._look_again()
        await self._look_at_each([n for n in self._nodes.values() if n.look_at <= now])
        await self._wakes.serve()
        while (unused := self._targets.take_unused()) is not None:
            await self._release(*unused)

    def _next_time(self) -> float:
        times = [node.look_at for node in self._nodes.values()]
        times += [self._invalidate_at, self._look_at_all]
        times += [trio.current_time() + REREAD_S] if self._reread else []
        times += [-math.inf] if self._wakes.waiting else []
        return min(times)

    async def _read_all(self) -> None:
        """Read what events are changes of; whatever was known may be wrong."""
        self._held = []
        try:
            interfaces = await self._nl.interfaces()
            entries = await self._nl.neighbours()
        except NetlinkError as error:
            log.warning("netlink_read_failed", error=str(error))
            return
        finally:
            held, self._held = self._held, None
        self._reread = False
        self._known.load(interfaces.values(), entries)
        self._look_again()
        for event in held:
            self._apply(event)

    async def _look_at_each(self, nodes: Sequence[WatchedNode]) -> None:
        waiting = iter(nodes)

        async def work() -> None:
            for node in waiting:
                if self._nodes.get(node.address) is node:
                    await self._look(node)

        async with trio.open_nursery() as nursery:
            for _ in range(min(LOOKS_AT_ONCE, len(nodes))):
                nursery.start_soon(work)

    async def _look(self, node: WatchedNode) -> None:
        """Find out where frames to a node go; make the kernel find out what it does not know."""
        node.look_at = trio.current_time() + REFRESH_S
        try:
            route = await self._nl.route_to(node.address)
        except NetlinkError as error:
            route, node.problem = None, str(error)
        if self._nodes.get(node.address) is not node:
            return  # forgotten meanwhile
        node.route = route
        if route is not None:
            node.target = (route.ifindex, route.gateway or node.address)
            if self._targets.aim(node.address, node.target) and node.static_mac and route.gateway:
                log.warning(
                    "static_mac_ignored", node=str(node.address), gateway=str(route.gateway)
                )
            await self._keep(node)
        if self._nodes.get(node.address) is node:
            self._settle(node)

    async def _keep(self, node: WatchedNode) -> None:
        """Have the kernel resolve a node's neighbour, unless it has it and keeps it."""
        target = node.target
        if target is None or node.is_static:
            return
        if not self._targets.is_kept(target) or target not in self._known.macs:
            try:
                await self._nl.probe(*target)
            except NetlinkError as error:
                log.debug("neighbour_not_probed", address=str(target[1]), error=str(error))
            else:
                self._targets.keep(target)

    async def _release(self, ifindex: int, address: IPAddress) -> None:
        try:
            await self._nl.release(ifindex, address)
        except NetlinkError as error:
            log.debug("neighbour_not_released", address=str(address), error=str(error))

    # what happened

    def _apply(self, event: NetlinkEvent) -> None:
        if self._held is not None:
            # So many that some may be missed are as good as an overflow.
            event = event if len(self._held) < HELD_EVENTS else Overflow()
            self._held[HELD_EVENTS:] = [event]
            return
        match event:
            case NeighbourChanged():
                self._neighbour_changed(event)
            case LinkChanged():
                if self._known.link_changed(event):
                    self._look_again()
                    self._invalidate_soon()
            case RouteChanged():
                self._route_changed(event)
            case Overflow():
                log.info("netlink_overflow")
                self._reread = True
                self._invalidate_soon()

    def _route_changed(self, event: RouteChanged) -> None:
        affected = affected_by(event)
        if affected is None:
            return
        self._invalidate_soon()
        self._routes_changed += 1
        if self._routes_changed <= FEW_ROUTES:
            self._look_again(affected)
        else:  # cheaper than to ask for each of thousands of routes which nodes it concerns
            self._look_at_all = min(self._look_at_all, trio.current_time() + STORM_S)

    def _neighbour_changed(self, event: NeighbourChanged) -> None:
        matters, wrong = self._known.neighbour_changed(event)
        if not matters:
            return
        if wrong is not None and self._next_hops.invalidate_clients(event.ifindex, wrong):
            self._on_next_hops()
        for address in self._targets.nodes((event.ifindex, event.address)):
            node = self._nodes.get(address)
            if node is None:
                continue  # a callback forgot it
            if self._known.find(node) is None:
                node.look_at = -math.inf
                self._wakeup.set()
            else:
                self._settle(node)

    def _look_again(self, which: Callable[[IPAddress], bool] = lambda _: True) -> None:
        for node in self._nodes.values():
            if which(node.address):
                node.look_at = -math.inf
        self._wakeup.set()

    def _invalidate_soon(self) -> None:
        self._invalidate_at = max(trio.current_time(), self._invalidated_at + INVALIDATE_S)
        self._wakeup.set()

    def _invalidate(self) -> None:
        self._invalidate_at = math.inf
        self._invalidated_at = trio.current_time()
        self._routes_changed = 0
        if self._next_hops.invalidate_clients():
            self._on_next_hops()

    # what is decided

    def _settle(self, node: WatchedNode) -> None:
        """Bring a node's next hop in line with what is known; lost ones are given some time."""
        hop = self._known.find(node)
        now = trio.current_time()
        if hop is not None:
            node.attempts, node.lost_at = 0, math.inf
        else:
            node.attempts += 1
            wait = backoff_s(node.attempts, first_s=PROBE_FIRST_S, most_s=PROBE_MOST_S)
            node.lost_at = min(node.lost_at, now + LOST_S)
            node.look_at = min(node.look_at, now + wait)
            if node.hop is not None and now < node.lost_at:
                node.look_at = min(node.look_at, node.lost_at)
                return
        if hop != node.hop:
            self._set(node, hop)

    def _set(self, node: WatchedNode, hop: NextHop | None) -> None:
        node.hop = hop
        index = self._next_hops.set_node(node.address, hop)
        if hop is not None and not index:
            node.problem = "no room for its next hop: too many nodes and gateways"
            log.error("next_hops_full", node=str(node.address))
        elif hop is None:
            log.warning("node_unresolved", node=str(node.address), reason=node.problem)
        else:
            log.debug("node_resolved", node=str(node.address), mac=hop.dst_mac)
        self._on_change(
            node.address, hop if index else None, hop.dst_mac if hop and index else None
        )
