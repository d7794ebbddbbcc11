# SPDX-License-Identifier: Apache-2.0
"""Keeps the program that takes packets out of tunnels on the interfaces that they come in by."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from pathlib import Path

import structlog
import trio

from galelb.bpf.attach import attach_xdp, detach_xdp, pinned_programs, query_xdp
from galelb.bpf.syscalls import ENOTSUPP
from galelb.datapath.claims import claim
from galelb.errors import AttachError, GaleError
from galelb.model import Interface, IPAddress, XdpMode
from galelb.netlink import Netlink
from galelb.node.decap_program import DecapProgram
from galelb.node.host_record import Book, Decapsulation
from galelb.node.tunnels import End, Outcome

__all__ = ["Decapsulator"]

log = structlog.get_logger(__name__)

_NO_NATIVE = {errno.EOPNOTSUPP, errno.ERANGE, errno.EINVAL, errno.ENOMEM, ENOTSUPP}
_AGGREGATING = ("gro", "lro")


class Decapsulator:
    """What is attached is in the book before it is; the kernel goes on when this process dies.

    Whoever calls `settle` calls `close` too, which leaves everything attached.
    """

    def __init__(self, folder: Path, book: Book, cache: Path | None = None) -> None:
        """`folder` is for pins and goes with them; see DecapProgram."""
        self._folder = folder
        self._book = book
        self._cache = cache
        self._program: DecapProgram | None = None
        self._claims: dict[str, contextlib.ExitStack] = {}

    async def settle(
        self,
        netlink: Netlink,
        tunnels: frozenset[End],
        own: Collection[IPAddress],
        interfaces: Mapping[str, Interface],
    ) -> list[str]:
        """Unpack what comes in tunnels to addresses of our own, on these interfaces only.

        Returns what is in the way, a sentence each.
        """
        await self._book.write(tunnels=tuple(sorted(tunnels, key=str)))
        try:
            program = await self._loaded()
            outer = [End(address, port) for address in own for port in {t.port for t in tunnels}]
            await trio.to_thread.run_sync(program.expect, outer, tunnels)
            held = self._book.record.decapsulations
            await self._leave(netlink, [one for one in held if one.interface not in interfaces])
        except (GaleError, OSError) as error:
            return [str(error)]
        problems = [p for i in interfaces.values() if (p := await self._try(netlink, i, program))]
        if not problems:
            program.forget_older()
        return problems

    async def remove(self, netlink: Netlink) -> None:
        """Take everything off that we, or an earlier agent, attached. Raises GaleError, OSError."""
        self.close()
        await self._leave(netlink, self._book.record.decapsulations)
        await trio.to_thread.run_sync(DecapProgram.remove, self._folder)
        await self._book.write(tunnels=())

    def close(self) -> None:
        """Let go of the program and of the interfaces; what is attached goes on."""
        for held in self._claims.values():
            held.close()
        self._claims.clear()
        if self._program is not None:
            counts = self._program.statistics().items()
            log.info("tunnel_packets", **{outcome.name.lower(): n for outcome, n in counts})
            self._program.close()
            self._program = None

    def statistics(self) -> Mapping[Outcome, int]:
        """Return packets by outcome; none before the program is loaded."""
        return self._program.statistics() if self._program is not None else {}

    async def _loaded(self) -> DecapProgram:
        if self._program is None:
            load = partial(DecapProgram, self._folder, self._cache)
            self._program = await trio.to_thread.run_sync(load)
        return self._program

    async def _try(self, netlink: Netlink, interface: Interface, program: DecapProgram) -> str:
        """Attach to an interface; returns why that is impossible, or nothing."""
        try:
            if interface.name not in self._claims:
                # Asking who has it may take a second.
                self._claims[interface.name] = await netlink.call(_claimed, interface.name)
            await self._attach(netlink, interface, program)
        except (GaleError, OSError) as error:
            return str(error)
        return ""

    async def _attach(self, netlink: Netlink, interface: Interface, program: DecapProgram) -> None:
        look = partial(query_xdp, interface.ifindex, pins=program.pin.parent)
        state = await netlink.call(look)
        held = self._held(interface)
        ours = program.ours() | ({held.program_id} if held else set())
        if state is not None and state.program_id == program.id:
            if held is None and state.mode is not None:
                await self._note(_decapsulation(interface, program, state.mode))
            return
        if state is not None and state.program_id in ours and state.mode is not None:
            await self._attach_as(netlink, interface, program, state.mode, ours)
            return
        try:
            await self._attach_as(netlink, interface, program, XdpMode.NATIVE, ours)
        except AttachError as error:
            if error.code not in _NO_NATIVE:
                raise
            log.warning("no_native_xdp", interface=interface.name, reason=str(error))
            await self._attach_as(netlink, interface, program, XdpMode.GENERIC, ours)

    async def _attach_as(
        self,
        netlink: Netlink,
        interface: Interface,
        program: DecapProgram,
        mode: XdpMode,
        ours: Collection[int],
    ) -> None:
        """Generic XDP comes after GRO and LRO have glued packets together: so they are off."""
        held = self._held(interface)
        before = dict(held.offloads) if held else {}
        if mode is XdpMode.GENERIC:
            now = await netlink.offloads(interface.name)
            before |= {key: True for key in _AGGREGATING if now[key]}
        await self._note(_decapsulation(interface, program, mode, before))
        if mode is XdpMode.GENERIC:
            await netlink.set_offloads(interface.name, dict.fromkeys(_AGGREGATING, False))
        how = partial(attach_xdp, interface.ifindex, interface.name, program.pin, mode, only=ours)
        await netlink.call(how)
        log.info("tunnels_end_here", interface=interface.name, mode=mode.value)

    async def _leave(self, netlink: Netlink, held: Iterable[Decapsulation]) -> None:
        present = await netlink.interfaces()
        for one in tuple(held):
            interface = present.get(one.interface)
            if interface is not None and interface.ifindex == one.ifindex:
                pins = self._folder / "bpf"
                only = pinned_programs(pins) | {one.program_id}
                take_off = partial(detach_xdp, one.ifindex, one.interface, only=only, pins=pins)
                if await netlink.call(take_off):
                    log.info("tunnels_end_no_more", interface=one.interface)
                if one.offloads:
                    await netlink.set_offloads(one.interface, one.offloads)
            await self._forget(one)
            if one.interface in self._claims:
                self._claims.pop(one.interface).close()

    def _held(self, interface: Interface) -> Decapsulation | None:
        for one in self._book.record.decapsulations:
            if (one.interface, one.ifindex) == (interface.name, interface.ifindex):
                return one
        return None

    async def _note(self, new: Decapsulation) -> None:
        held = self._book.record.decapsulations
        others = tuple(one for one in held if one.interface != new.interface)
        await self._book.write(decapsulations=(*others, new))

    async def _forget(self, gone: Decapsulation) -> None:
        held = self._book.record.decapsulations
        await self._book.write(decapsulations=tuple(one for one in held if one != gone))


def _claimed(name: str) -> contextlib.ExitStack:
    """Keep balancers of this machine from taking an interface. Raises GaleError if one has it."""
    with contextlib.ExitStack() as stack:
        taken = stack.enter_context(claim(name))
        if taken is not None:
            who = f" (pid {taken})" if taken else ""
            raise GaleError(
                f"interface {name} belongs to a balancer of this machine{who}, so tunnels cannot"
                " end on it: run them on different machines or interfaces"
            )
        return stack.pop_all()


def _decapsulation(
    interface: Interface,
    program: DecapProgram,
    mode: XdpMode,
    offloads: Mapping[str, bool] | None = None,
) -> Decapsulation:
    return Decapsulation(
        interface=interface.name,
        ifindex=interface.ifindex,
        program_id=program.id,
        mode=mode.value,
        offloads=dict(offloads or {}),
    )
