# SPDX-License-Identifier: Apache-2.0
"""Attaches the programs to interfaces in the fastest way that works, and takes them off again."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import attrs
import structlog

from galelb.bpf.attach import attach_xdp, detach_xdp, query_xdp
from galelb.bpf.syscalls import obj_get
from galelb.control.state import Attachment
from galelb.errors import AttachError, GaleError
from galelb.model import Interface, XdpMode

if TYPE_CHECKING:
    from galelb.api.view import InterfaceStatus
    from galelb.netlink import Netlink
    from galelb.plugins import Plugins

__all__ = ["Attacher", "Entries", "TcWantedError", "detach", "found_attachments"]

log = structlog.get_logger("galelb.attach")

_TC_NAME = "gale"
_NO_NATIVE = {errno.EOPNOTSUPP, errno.ERANGE, errno.EINVAL, errno.ENOMEM, 524}
_AGGREGATING = ("gro", "lro")
_Direction = Literal["ingress", "egress"]
_DIRECTIONS: tuple[_Direction, ...] = ("ingress", "egress")


@attrs.frozen(kw_only=True)
class Entries:
    """Pins of the programs to attach."""

    xdp: Path
    tc: Path | None = None
    """None when it was not compiled."""
    tc_possible: bool = False
    """Whether the forwarders in use support TC, compiled or not."""
    egress: Path | None = None
    """For the public interface, when answers that the kernel forwards must be claimed."""


@attrs.frozen(kw_only=True)
class _Place:
    interface: Interface
    role: str
    mode: XdpMode | None
    reason: str = ""
    attachments: tuple[Attachment, ...] = ()


class TcWantedError(AttachError):
    """Native XDP is impossible, and the programs were not compiled for TC: do that and retry."""


class _NoNativeError(AttachError):
    """An interface has no native XDP, so that none may be attached so."""


class Attacher:
    """Knows what is attached where. `wanted` maps interface names to roles.

    Roles are public, private, both or extra. An interface that cannot be attached now is
    reported by `statuses` and tried again by `attach`.

    All interfaces get one mode: native XDP can redirect only to a driver that takes XDP frames
    (not to a bridge, nor to the veth of a container without GRO), while TC and generic XDP
    reach any. What an earlier run settled for is kept, so that a restart changes nothing.
    """

    def __init__(
        self,
        netlink: Netlink,
        plugins: Plugins,
        *,
        xdp_mode: str,
        wanted: Mapping[str, str],
        earlier: tuple[Attachment, ...] = (),
    ) -> None:
        self._netlink = netlink
        self._plugins = plugins
        self._xdp_mode = xdp_mode
        self._wanted = dict(wanted)
        self._places: dict[str, _Place] = {}
        self._earlier = earlier
        self._slower_because = _settled(xdp_mode, wanted, earlier)
        self._pins: Path | None = None

    @property
    def needs_tc(self) -> bool:
        """Whether it is known that native XDP does not work, so that TC is used where possible."""
        return bool(self._slower_because)

    def attachments(self) -> tuple[Attachment, ...]:
        """Return what must be undone, to be persisted; what an earlier run left counts too."""
        now = tuple(a for place in self._places.values() for a in place.attachments)
        return now + tuple(a for a in self._earlier if a.interface not in self._places)

    def statuses(self) -> tuple[InterfaceStatus, ...]:
        """Return every wanted interface and how it is attached."""
        return tuple(self._status(name, role) for name, role in self._wanted.items())

    def _status(self, name: str, role: str) -> InterfaceStatus:
        from galelb.api.view import InterfaceStatus  # not before it forwards: 50 ms

        place = self._places.get(name)
        if place is None:
            return InterfaceStatus(name=name, role=role, mode=None, reason="not attached yet")
        return InterfaceStatus(
            name=name,
            role=role,
            mode=place.mode,
            reason=place.reason,
            ifindex=place.interface.ifindex,
        )

    def is_current(self, name: str, ifindex: int) -> bool:
        """Return whether this very device is attached, and not a former one of the same name."""
        place = self._places.get(name)
        return place is not None and place.mode is not None and place.interface.ifindex == ifindex

    def note_link(self, name: str, ifindex: int, *, removed: bool) -> bool:
        """Note that a device is gone or has this name now; return whether one of ours is gone."""
        for ours, place in self._places.items():
            if place.interface.ifindex == ifindex and place.mode and (removed or name != ours):
                why = "the interface is gone" if removed else f"the interface was renamed to {name}"
                self._places[ours] = attrs.evolve(place, mode=None, reason=why)
                log.warning("interface_gone", interface=ours, reason=why)
                return True
        return False

    def wants(self, name: str) -> bool:
        """Return whether the interface is one of ours."""
        return name in self._wanted

    async def attach_all(self, entries: Entries) -> None:
        """Attach everywhere, atomically replacing older programs. Raises AttachError."""
        try:
            await self._attach_each(entries)
        except _NoNativeError as error:
            self._slower_because = f"no native XDP: {error.__cause__}"
            await self._attach_each(entries)
        await self._leave_former()

    async def _attach_each(self, entries: Entries) -> None:
        self._pins = entries.xdp.parent
        for name in self._wanted:
            await self._attach(name, entries)

    async def _leave_former(self) -> None:
        """Take off what an earlier run attached where nothing of ours belongs any more."""
        former = tuple(a for a in self._earlier if a.interface not in self._wanted)
        await detach(self._netlink, former, pins=self._pins)
        self._earlier = tuple(a for a in self._earlier if a not in former)

    async def attach(self, name: str, entries: Entries) -> None:
        """Attach to one interface that came back. Raises AttachError or NetlinkError."""
        try:
            await self._attach(name, entries)
        except _NoNativeError:
            await self.attach_all(entries)

    async def _attach(self, name: str, entries: Entries) -> None:
        interface, role = await self._netlink.interface(name), self._wanted[name]
        mode, reason, done = await self._ingress(interface, role, entries)
        if entries.egress is not None and role in ("public", "both"):
            done += (await self._tc(interface, entries.egress, "egress"),)
        else:
            await self._netlink.remove_tc(interface.ifindex, "egress")
        self._places[name] = _Place(
            interface=interface, role=role, mode=mode, reason=reason, attachments=done
        )
        (log.warning if reason else log.info)(
            "attached", interface=name, mode=mode.value, reason=reason
        )
        self._plugins.attached(name, mode)

    async def _ingress(
        self, interface: Interface, role: str, entries: Entries
    ) -> tuple[XdpMode, str, tuple[Attachment, ...]]:
        """Return the mode, why it is not native, and what was attached."""
        wanted = self._xdp_mode
        if wanted == "tc":
            return await self._tc_instead(interface, entries, "xdp_mode is tc")
        if wanted == "generic":
            return await self._generic(interface, entries, "xdp_mode is generic")
        if self._slower_because:
            return await self._slower(interface, entries, self._slower_because)
        if role == "extra":
            return await self._tc_instead(interface, entries, "listed in extra_interfaces")
        return await self._native(interface, entries)

    async def _native(
        self, interface: Interface, entries: Entries
    ) -> tuple[XdpMode, str, tuple[Attachment, ...]]:
        try:
            await self._xdp(interface, entries.xdp, XdpMode.NATIVE)
        except AttachError as error:
            if self._xdp_mode == "native" or error.code not in _NO_NATIVE:
                raise
            raise _NoNativeError(interface.name, "native", "no native XDP") from error
        await self._netlink.remove_tc(interface.ifindex, "ingress")
        return XdpMode.NATIVE, "", (_attachment(interface, XdpMode.NATIVE),)

    async def _slower(
        self, interface: Interface, entries: Entries, why: str
    ) -> tuple[XdpMode, str, tuple[Attachment, ...]]:
        if entries.tc_possible:
            return await self._tc_instead(interface, entries, why)
        return await self._generic(interface, entries, why)

    async def _tc_instead(
        self, interface: Interface, entries: Entries, why: str
    ) -> tuple[XdpMode, str, tuple[Attachment, ...]]:
        if not entries.tc_possible:
            raise AttachError(
                interface.name, "tc", f"{why}, and a forwarder in use does not support TC"
            )
        if entries.tc is None:
            raise TcWantedError(interface.name, "tc", why)
        take_off = partial(detach_xdp, interface.ifindex, interface.name, pins=entries.xdp.parent)
        await self._netlink.call(take_off)
        done = await self._tc(interface, entries.tc, "ingress")
        return XdpMode.TC, why, (attrs.evolve(done, reason=why),)

    async def _generic(
        self, interface: Interface, entries: Entries, why: str
    ) -> tuple[XdpMode, str, tuple[Attachment, ...]]:
        """Generic XDP sees what GRO and LRO glued together, so those are switched off."""
        await self._xdp(interface, entries.xdp, XdpMode.GENERIC)
        changed = await self._netlink.set_offloads(
            interface.name, dict.fromkeys(_AGGREGATING, False)
        )
        before = self._offloads_before(interface) | {k: v for k, v in changed.items() if v}
        done = _attachment(interface, XdpMode.GENERIC, offloads=before)
        return XdpMode.GENERIC, why, (attrs.evolve(done, reason=why),)

    def _offloads_before(self, interface: Interface) -> dict[str, bool]:
        """Return what an earlier attachment to the same device had switched off."""
        known = (*self.attachments(), *self._earlier)
        return next(
            (dict(a.offloads) for a in known if a.ifindex == interface.ifindex and a.offloads), {}
        )

    async def _xdp(self, interface: Interface, program: Path, mode: XdpMode) -> None:
        await self._netlink.call(attach_xdp, interface.ifindex, interface.name, program, mode)

    async def _tc(self, interface: Interface, program: Path, direction: _Direction) -> Attachment:
        fd = obj_get(program)
        try:
            await self._netlink.add_tc(interface.ifindex, fd, direction, f"{_TC_NAME}_{direction}")
        finally:
            os.close(fd)
        return _attachment(interface, XdpMode.TC, egress=direction == "egress")

    async def detach_all(self) -> None:
        """Take everything off and restore offloads; what fails is logged."""
        await detach(self._netlink, self.attachments(), pins=self._pins)
        for name in self._places:
            self._plugins.detached(name)
        self._places.clear()


def _settled(xdp_mode: str, wanted: Mapping[str, str], earlier: tuple[Attachment, ...]) -> str:
    """Return why native XDP is not even tried, or an empty text."""
    if xdp_mode != "auto":
        return ""
    if "extra" in wanted.values():
        return "extra_interfaces are in use"
    ingress = (one for one in earlier if one.interface in wanted and not one.egress)
    return next((one.reason for one in ingress if one.mode != XdpMode.NATIVE), "")


def _attachment(
    interface: Interface,
    mode: XdpMode,
    *,
    egress: bool = False,
    offloads: dict[str, bool] | None = None,
) -> Attachment:
    return Attachment(
        interface=interface.name,
        ifindex=interface.ifindex,
        mode=mode.value,
        egress=egress,
        offloads=offloads or {},
    )


async def detach(
    netlink: Netlink, attachments: tuple[Attachment, ...], *, pins: Path | None = None
) -> None:
    """Undo attachments of this or an earlier run; an interface that is gone needs nothing.

    Programs pinned in `pins` are known as ours without the right to ask for their names.
    """
    present = {one.ifindex: one.name for one in (await netlink.interfaces()).values()}
    for one in attachments:
        if present.get(one.ifindex) != one.interface:
            continue
        try:
            await _undo(netlink, one, pins)
        except GaleError as error:
            log.error("not_detached", interface=one.interface, reason=str(error))  # noqa: TRY400
        else:
            log.info("detached", interface=one.interface, mode=one.mode)


async def found_attachments(
    netlink: Netlink, names: Iterable[str], *, only: frozenset[int] | None = None
) -> tuple[Attachment, ...]:
    """Return what programs of ours these interfaces carry, when nothing else remembers it.

    `only` narrows that to programs with these ids of the kernel, an instance's own; without
    any there is nothing to find.
    """
    if only is not None and not only:
        return ()
    present = await netlink.interfaces()
    found = []
    for interface in (present[name] for name in names if name in present):
        state = await netlink.call(query_xdp, interface.ifindex)
        if state is not None and state.ours and (only is None or state.program_id in only):
            found.append(_attachment(interface, state.mode or XdpMode.NATIVE))
        for direction in _DIRECTIONS:
            if await netlink.has_tc(interface.ifindex, direction):
                found.append(_attachment(interface, XdpMode.TC, egress=direction == "egress"))
    return tuple(found)


async def _undo(netlink: Netlink, one: Attachment, pins: Path | None) -> None:
    if one.mode == XdpMode.TC:
        direction: _Direction = "egress" if one.egress else "ingress"
        await netlink.remove_tc(one.ifindex, direction, made_clsact=True)
        return
    await netlink.call(partial(detach_xdp, one.ifindex, one.interface, pins=pins))
    if one.offloads:
        await netlink.set_offloads(one.interface, one.offloads)
