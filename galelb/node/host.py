# SPDX-License-Identifier: Apache-2.0
"""Sets a node's machine up as the balancers' forwarders need it, and undoes exactly that."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio

from galelb.errors import GaleError, NetlinkError
from galelb.model import Interface, IPAddress
from galelb.node.health import LocalHealth
from galelb.node.host_needs import Need, mending, missing_sysctls
from galelb.node.host_record import Book
from galelb.node.host_state import HostState
from galelb.node.kernel_tunnels import missing_tunnels, tunnel_devices
from galelb.node.sysctls import read_sysctl
from galelb.node.vips import add_vips, remove_vips
from galelb.node.wire import Advice
from galelb.node.wishes import Wishes, read_wishes

if TYPE_CHECKING:
    from galelb.netlink import Netlink
    from galelb.node.decap import Decapsulator

__all__ = ["NodeHost"]

log = structlog.get_logger(__name__)

_LOOK_AGAIN_S = 10.0
_ADOPT_S = 30.0
"""How long what an earlier agent left is kept for balancers that have not been heard yet."""
_ALLOW = "or set configure_host = true in [node] of node.toml"


class NodeHost:
    """What the machine is set up for; `run` looks again now and then, `leave` undoes it all.

    With `configure` false nothing is changed, only said. A machine that lacks a VIP, or leaves
    packets to it in their tunnels, would swallow its share of packets: so the node says that it
    does not serve until it has what is needed.
    """

    def __init__(
        self,
        health: LocalHealth,
        *,
        configure: bool,
        record: Path,
        balancers: Collection[str] = (),
        not_vips: Collection[str] = (),
        interfaces: Collection[str] = (),
        cache: Path | None = None,
    ) -> None:
        """`not_vips`: the balancers' own addresses, which this machine must not take.

        `interfaces`: those by which tunnels come; empty = those that balancers are reached by.
        `cache`: where compiled programs are kept.
        """
        self._health = health
        self._configure = configure
        self._book = Book(record)
        self._pins = record.with_suffix(".tunnels")
        self._cache = cache
        self._balancers = frozenset(balancers)
        self._not_vips = frozenset(not_vips)
        self._given = tuple(interfaces)
        self._wanted: dict[str, Wishes] = {}
        self._decapsulator: Decapsulator | None = None
        self._adopt_until = 0.0
        self._lock = trio.Lock()
        self._needed = trio.Event()
        self._said: frozenset[str] = frozenset()

    @property
    def changed(self) -> bool:
        """Whether anything was changed that `leave` will undo."""
        return bool(self._book.record)

    def state(self) -> HostState:
        """Return what the machine is set up for."""
        counts = {} if self._decapsulator is None else self._decapsulator.statistics()
        return HostState(
            configure=self._configure,
            wanted=Wishes.together(self._wanted.values()),
            record=self._book.record,
            mend=tuple(sorted(self._said)),
            unpacked={outcome.name.lower(): count for outcome, count in counts.items()},
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take over what an agent that crashed left, then look after the machine."""
        self._book.open()
        self._adopt_until = trio.current_time() + _ADOPT_S
        if record := self._book.record:
            vips = [str(vip) for vip in record.vips]
            on = [one.interface for one in record.decapsulations]
            log.info("host_changes_adopted", vips=vips, tunnels_on=on)
            self._needed.set()
            if not self._configure:
                await self.leave()
        task_status.started()
        try:
            await self._needed.wait()
            while True:
                await trio.sleep(_LOOK_AGAIN_S)
                await self._look()
        finally:
            if self._decapsulator is not None:
                self._decapsulator.close()

    async def prepare(self, balancer: str, advice: Advice) -> None:
        """Set the machine up for a balancer; returns when it is, or is known not to be."""
        wishes = read_wishes(advice, self._not_vips)
        if self._wanted.get(balancer) != wishes:
            self._wanted[balancer] = wishes
            if wishes:
                self._needed.set()
            if self._needed.is_set():
                await self._look()

    async def leave(self) -> None:
        """Undo what was changed; what somebody else changed meanwhile stays as it is."""
        if self._book.record:
            from galelb.netlink import open_netlink

            async with self._lock, open_netlink() as netlink:
                await self._settle(netlink, Wishes(), {}, {})
            log.info("host_restored", complete=not self._book.record)

    async def _look(self) -> None:
        try:
            await self._reconcile()
        except GaleError as error:
            log.error("host_not_looked_at", reason=str(error))  # noqa: TRY400 - for users

    async def _reconcile(self) -> None:
        """Bring the machine in line with what the balancers want; problems are said."""
        from galelb.netlink import open_netlink  # a node that needs none of it saves its memory

        wishes = Wishes.together(self._wanted.values())
        async with self._lock, open_netlink() as netlink:
            interfaces = await netlink.interfaces()
            commands: list[str] = []
            if self._configure:
                ways, problems = await self._ways(netlink, wishes, interfaces)
                wanted, kept = self._with_kept(wishes, ways, interfaces)
                problems += await self._settle(netlink, wanted, interfaces, kept)
                interfaces = await netlink.interfaces()
            else:
                ways, packed = await self._left_to_the_kernel(netlink, wishes, interfaces)
                problems = [f"{what}: {command}, {_ALLOW}" for what, command in packed]
                commands = [command for _, command in packed]
            present = {a for interface in interfaces.values() for a in interface.addresses}
            absent = sorted(wishes.vips - present, key=str)
            need = Need(vips=wishes.served, interfaces=interfaces, tunnels=tuple(ways.values()))
            lacking = await netlink.call(lambda: list(missing_sysctls(need, read_sysctl)))
        self._say([*commands, *(mending(one) for one in [*lacking, *absent])])
        problems += [_lack(vip) for vip in absent]
        self._health.host_lacks("; ".join(f"host: {problem}" for problem in problems))

    def _with_kept(
        self, wishes: Wishes, ways: Mapping[str, Interface], interfaces: Mapping[str, Interface]
    ) -> tuple[Wishes, Mapping[str, Interface]]:
        """Return what is wanted and where tunnels end, with what is kept for a time.

        What an earlier agent left is, for balancers that were not heard yet; and where tunnels
        ended, while there is no way to any balancer.
        """
        record = self._book.record
        names = [one.interface for one in record.decapsulations if one.interface in interfaces]
        held = {name: interfaces[name] for name in names}
        silent = not self._balancers <= self._wanted.keys()
        if not silent or trio.current_time() >= self._adopt_until:
            return wishes, ways or (held if wishes.tunnels else {})
        kept = Wishes(vips=frozenset(record.vips), tunnels=frozenset(record.tunnels))
        return Wishes.together([wishes, kept]), held | dict(ways)

    async def _ways(
        self, netlink: Netlink, wishes: Wishes, interfaces: Mapping[str, Interface]
    ) -> tuple[dict[str, Interface], list[str]]:
        """Return the interfaces that tunnels come in by, and what is wrong about that."""
        if not wishes.tunnels:
            return {}, []
        if self._given:
            absent = [name for name in self._given if name not in interfaces]
            problems = [f"there is no interface {name}: mend [node] interfaces" for name in absent]
            return {n: interfaces[n] for n in self._given if n in interfaces}, problems
        by_index = {interface.ifindex: interface for interface in interfaces.values()}
        found = {}
        for balancer in sorted(wishes.balancers, key=str):
            try:
                way = by_index[(await netlink.route_to(balancer)).ifindex]
            except (NetlinkError, KeyError) as error:
                log.warning("no_way_to_balancer", balancer=str(balancer), reason=str(error))
            else:
                found[way.name] = way
        if not found:
            problem = "no interface leads to a balancer, so it is not known where its tunnels end"
            return {}, [f"{problem}: name the interfaces in [node] interfaces"]
        return found, []

    async def _left_to_the_kernel(
        self, netlink: Netlink, wishes: Wishes, interfaces: Mapping[str, Interface]
    ) -> tuple[dict[str, Interface], list[tuple[str, str]]]:
        """Return the devices that unpack, and what stays in its tunnels with what mends it."""
        outer = {balancer.version for balancer in wishes.balancers} or {4}
        devices = await netlink.call(tunnel_devices, interfaces.values())
        missing = list(missing_tunnels(wishes.tunnels, outer, devices))
        return {device.name: device for device in devices}, missing

    async def _settle(
        self,
        netlink: Netlink,
        wishes: Wishes,
        interfaces: Mapping[str, Interface],
        ways: Mapping[str, Interface],
    ) -> list[str]:
        """Change what has to be changed; returns why tunnels cannot end here."""
        need = Need(vips=wishes.served, interfaces=interfaces, tunnels=tuple(ways.values()))
        try:
            if not wishes.tunnels:
                await self._let_tunnels_be(netlink)
            await remove_vips(netlink, self._book, wishes.vips, need)
            if wishes:
                await add_vips(netlink, self._book, wishes.vips, need)
            if wishes.tunnels:
                return await self._end_tunnels(netlink, wishes, ways)
        except (GaleError, OSError) as error:
            reason = _words(error)
            log.error("host_not_set_up", reason=reason)  # noqa: TRY400 - for users
            return [reason] if wishes.tunnels else []
        return []

    async def _end_tunnels(
        self, netlink: Netlink, wishes: Wishes, ways: Mapping[str, Interface]
    ) -> list[str]:
        present = {a for i in (await netlink.interfaces()).values() for a in i.addresses}
        own = {address for address in present - wishes.served if not address.is_loopback}
        return await self._decap().settle(netlink, wishes.tunnels, own, ways)

    async def _let_tunnels_be(self, netlink: Netlink) -> None:
        if self._book.record.decapsulations or self._book.record.tunnels:
            await self._decap().remove(netlink)

    def _decap(self) -> Decapsulator:
        if self._decapsulator is None:
            from galelb.datapath.machine import cache_folder
            from galelb.node.decap import Decapsulator  # see _reconcile

            cache = self._cache or cache_folder()
            self._decapsulator = Decapsulator(self._pins, self._book, cache)
        return self._decapsulator

    def _say(self, commands: Collection[str]) -> None:
        """Log the commands that mend what is missing, each once."""
        now = frozenset(commands)
        for command in sorted(now - self._said):
            log.warning("host_lacks", mend=command)
        self._said = now


def _words(error: GaleError | OSError) -> str:
    if isinstance(error, PermissionError):
        told = f"this agent may not change {error.filename}"
        return f"{told}: run it as root, or set configure_host = false in [node]"
    return str(error)


def _lack(vip: IPAddress) -> str:
    return f"{vip} is no address of this machine: {mending(vip)}"
