# SPDX-License-Identifier: Apache-2.0
"""Sets a node's machine up as the balancers' forwarders need it, and undoes exactly that."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio

from galelb.errors import GaleError
from galelb.model import IPAddress
from galelb.node.health import LocalHealth
from galelb.node.host_needs import LOOPBACK, mending, missing_sysctls, prefix
from galelb.node.host_record import HostRecord, Sysctl, load_record, save_record
from galelb.node.wire import VIP_ON_LO, Advice

if TYPE_CHECKING:
    from galelb.netlink import Netlink

__all__ = ["NodeHost"]

log = structlog.get_logger(__name__)

_LOOK_AGAIN_S = 10.0
_ADOPT_S = 30.0
"""How long what an earlier agent left is kept for balancers that have not been heard yet."""
_SYS = Path("/proc/sys")


class NodeHost:
    """What the machine is set up for; `run` looks again now and then, `leave` undoes it all.

    With `configure` false nothing is changed, only said. A machine that lacks a VIP would
    swallow its share of packets: so the node says that it does not serve until it has it.
    """

    def __init__(
        self,
        health: LocalHealth,
        *,
        configure: bool,
        record: Path,
        balancers: Collection[str] = (),
        not_vips: Collection[str] = (),
    ) -> None:
        """`not_vips`: the balancers' own addresses, which this machine must not take."""
        self._health = health
        self._configure = configure
        self._path = record
        self._balancers = frozenset(balancers)
        self._not_vips = frozenset(not_vips)
        self._wanted: dict[str, frozenset[IPAddress]] = {}
        self._record = HostRecord()
        self._adopt_until = 0.0
        self._lock = trio.Lock()
        self._needed = trio.Event()
        self._said: frozenset[str] = frozenset()

    @property
    def changed(self) -> bool:
        """Whether anything was changed that `leave` will undo."""
        return bool(self._record)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take over what an agent that crashed left, then look after the machine."""
        self._record = load_record(self._path)
        self._adopt_until = trio.current_time() + _ADOPT_S
        if self._record:
            log.info("host_changes_adopted", vips=[str(vip) for vip in self._record.vips])
            self._needed.set()
            if not self._configure:
                await self.leave()
        task_status.started()
        await self._needed.wait()
        while True:
            await trio.sleep(_LOOK_AGAIN_S)
            await self._look()

    async def prepare(self, balancer: str, advice: Advice) -> None:
        """Set the machine up for a balancer; returns when it is, or is known not to be."""
        found = [self._vip(setup.kind, setup.vip) for setup in advice.setups]
        vips = frozenset(vip for vip in found if vip is not None)
        if self._wanted.get(balancer) != vips:
            self._wanted[balancer] = vips
            if vips:
                self._needed.set()
            if self._needed.is_set():
                await self._look()

    async def leave(self) -> None:
        """Undo what was changed; what somebody else changed meanwhile stays as it is."""
        if self._record:
            from galelb.netlink import open_netlink

            async with self._lock, open_netlink() as netlink:
                await self._settle(netlink, frozenset(), ())
            log.info("host_restored", complete=not self._record)

    def _vip(self, kind: str, text: str) -> IPAddress | None:
        if kind != VIP_ON_LO or text in self._not_vips:
            log.warning("setup_refused", kind=kind, vip=text)
            return None
        try:
            vip = ip_address(text)
        except ValueError:
            vip = None
        if vip is None or vip.is_multicast or vip.is_unspecified or vip.is_loopback:
            log.warning("setup_refused", kind=kind, vip=text)
            return None
        return vip

    async def _look(self) -> None:
        try:
            await self._reconcile()
        except GaleError as error:
            log.error("host_not_looked_at", reason=str(error))  # noqa: TRY400 - for users

    async def _reconcile(self) -> None:
        """Bring the machine in line with what the balancers want; problems are said."""
        from galelb.netlink import open_netlink  # a node that needs none of it saves its memory

        vips = frozenset[IPAddress]().union(*self._wanted.values())
        silent = not self._balancers <= self._wanted.keys()
        keep = silent and trio.current_time() < self._adopt_until
        async with self._lock, open_netlink() as netlink:
            interfaces = await netlink.interfaces()
            names = tuple(interfaces)
            if self._configure:
                wanted = vips.union(self._record.vips) if keep else vips
                await self._settle(netlink, wanted, names)
                interfaces = await netlink.interfaces()
            present = {a for interface in interfaces.values() for a in interface.addresses}
            absent = sorted(vips - present, key=str)
            lacking = await netlink.call(lambda: list(missing_sysctls(vips, names, _read)))
        self._say([*lacking, *absent])
        self._health.host_lacks("; ".join(f"host: {_lack(vip)}" for vip in absent))

    async def _settle(
        self, netlink: Netlink, vips: Collection[IPAddress], names: Collection[str]
    ) -> None:
        try:
            await self._remove(netlink, vips)
            if vips:
                await self._add(netlink, vips, names)
        except (GaleError, OSError) as error:
            log.error("host_not_set_up", reason=str(error))  # noqa: TRY400 - for users

    async def _remove(self, netlink: Netlink, vips: Collection[IPAddress]) -> None:
        held = self._record
        lo = (await netlink.interface(LOOPBACK)).ifindex
        for vip in [vip for vip in held.vips if vip not in vips]:
            await netlink.del_address(lo, vip, prefix(vip))
            log.info("vip_removed", vip=str(vip))
        kept = tuple(vip for vip in held.vips if vip in vips)
        sysctls = held.sysctls
        if not any(vip.version == 4 for vip in vips):
            await netlink.call(_restore, sysctls)
            sysctls = ()
        await self._remember(HostRecord(vips=kept, sysctls=sysctls))

    async def _add(
        self, netlink: Netlink, vips: Collection[IPAddress], names: Collection[str]
    ) -> None:
        """Silence first, then the addresses: nobody may hear of them."""
        sysctls = await netlink.call(lambda: list(missing_sysctls(vips, names, _read)))
        present = {a for i in (await netlink.interfaces()).values() for a in i.addresses}
        absent = sorted((vip for vip in vips if vip not in present), key=str)
        held = self._record
        ours = {one.name: one for one in (*sysctls, *held.sysctls)}  # the first value is theirs
        new = tuple(vip for vip in absent if vip not in held.vips)
        await self._remember(HostRecord(vips=held.vips + new, sysctls=tuple(ours.values())))
        await netlink.call(_write, sysctls)
        lo = (await netlink.interface(LOOPBACK)).ifindex
        for vip in absent:
            await netlink.add_address(lo, vip, prefix(vip))
            log.info("vip_added", vip=str(vip))

    async def _remember(self, record: HostRecord) -> None:
        if record != self._record:
            await trio.to_thread.run_sync(save_record, self._path, record)
            self._record = record

    def _say(self, lacking: Collection[Sysctl | IPAddress]) -> None:
        """Log what is missing with the command that mends it, each once."""
        commands = frozenset(mending(one) for one in lacking)
        for command in sorted(commands - self._said):
            log.warning("host_lacks", mend=command)
        self._said = commands


def _lack(vip: IPAddress) -> str:
    return f"{vip} is no address of this machine: {mending(vip)}"


def _read(name: str) -> str | None:
    """Return a sysctl of the network namespace of this thread."""
    try:
        return (_SYS / name).read_text().strip()
    except OSError:
        return None


def _write(changes: Collection[Sysctl]) -> None:
    for one in changes:
        (_SYS / one.name).write_text(one.after)
        log.info("sysctl_set", name=one.name, before=one.before, after=one.after)


def _restore(changes: Collection[Sysctl]) -> None:
    for one in changes:
        value = _read(one.name)
        if value == one.after:
            (_SYS / one.name).write_text(one.before)
            log.info("sysctl_restored", name=one.name, value=one.before)
        elif value is not None and value != one.before:
            log.warning("sysctl_left", name=one.name, value=value, ours=one.after)
