# SPDX-License-Identifier: Apache-2.0
"""The announcer that leaves BGP to bird, and tells it by a file which VIPs there are."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import trio
from galelb_plugins.announce_bgp.bird_control import Bird, BirdError, open_bird
from galelb_plugins.announce_bgp.bird_file import protocol_name, read, render

from galelb.announcer import Announcer, AnnouncerContext, Held, HeldKind
from galelb.config.types import Folder
from galelb.forwarder import Options

if TYPE_CHECKING:
    from galelb.config import BalancerConfig

__all__ = ["AnnounceBgp", "AnnounceBgpOptions", "include_pattern"]

log = structlog.get_logger(__name__)

_RETRY_S = 1.0
_LOOK_S = 5.0
_ANSWER_S = 2.0
_POLL_S = 0.02
_POLLS = 25
_WITHDRAW_S = 1.0
_ADOPTED_S = 3.0
"""What an earlier run announced goes on for so long, while its addresses are still there."""
_MOST_BYTES = 4 << 20


class AnnounceBgpOptions(Options):
    """`[plugins.announce_bgp]`."""

    include_file: Folder = Path("/run/bird/galelb.conf")
    """The file to write, which bird.conf includes; bird must be able to read it."""
    control_socket: Folder = Path("/run/bird/bird.ctl")
    """Where bird takes commands."""


class AnnounceBgp(Announcer):
    """Bird announces the VIPs that are in a file and on their interfaces (see README.md)."""

    name = "announce_bgp"
    Options = AnnounceBgpOptions
    every_balancer = True

    options: AnnounceBgpOptions

    def __init__(self, options: Any, context: AnnouncerContext) -> None:
        super().__init__(options, context)
        self._vips: frozenset[Held] | None = None
        """None = not told yet."""
        self._adopted: frozenset[Held] = frozenset()
        self._told: str | None = None
        """What bird has read."""
        self._names: set[str] = set()
        """Protocols that bird may have from us; those of another instance are not our business."""
        self._changed = trio.Event()
        self._settled = trio.Event()
        self._trouble = ""
        self._lack = ""

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep bird's view current until cancelled; bird may be absent and return."""
        self._adopted = await trio.to_thread.run_sync(self._still_there)
        started = trio.current_time()
        task_status.started()
        while True:
            self._changed = trio.Event()
            if self._vips is None and trio.current_time() >= started + _ADOPTED_S:
                self._adopted = frozenset()
            await self._attempt()
            with trio.move_on_after(_RETRY_S if self._trouble or self._adopting else _LOOK_S):
                await self._changed.wait()

    def announce(self, vips: Collection[Held]) -> None:
        """Have bird announce exactly these.

        None at all says nothing yet at first: what an earlier run had announced goes on for a
        moment, while its addresses are there.
        """
        if vips or self._vips is not None:
            self._change(vips)

    async def withdraw(self) -> None:
        """Have bird withdraw all; returns when it has, or after 1 s."""
        self._change(())
        with trio.move_on_after(_WITHDRAW_S) as scope:
            await self._settled.wait()
        if scope.cancelled_caught:
            log.warning("bgp_not_withdrawn", error=self._trouble, hint="it is when VIPs expire")

    def _change(self, vips: Collection[Held]) -> None:
        if self._vips != frozenset(vips):
            self._vips = frozenset(vips)
            self._settled = trio.Event()
            self._changed.set()

    def reload(self, options: Any, config: BalancerConfig) -> None:
        """Go on with another file or socket."""
        if options != self.options:
            self._told = None
            self._changed.set()
        super().reload(options, config)

    def notes(self) -> list[str]:
        """Return what is wrong with bird."""
        return [note for note in (self._trouble, self._lack) if note]

    @property
    def _adopting(self) -> bool:
        return self._vips is None and bool(self._adopted)

    @property
    def _wanted(self) -> frozenset[Held]:
        return self._adopted if self._vips is None else self._vips

    def _still_there(self) -> frozenset[Held]:
        """Return what an earlier run had announced, as far as interfaces have it now."""
        try:
            with self.options.include_file.open() as file:
                found = read(file.read(_MOST_BYTES))
        except (OSError, UnicodeDecodeError):
            return frozenset()
        self._names |= {protocol_name(address) for address in found}
        there = self.context.interfaces().values()
        return frozenset(
            Held(address=address, interface=interface.name, kind=HeldKind.VIP)
            for interface in there
            for address in found
            if address in interface.addresses
        )

    async def _attempt(self) -> None:
        try:
            with trio.fail_after(_ANSWER_S):
                await self._tell(self._wanted)
        except trio.TooSlowError:
            self._say_trouble("bird does not answer at its control socket")
        except (BirdError, OSError) as error:
            self._say_trouble(str(error))
        else:
            self._say_trouble("")

    async def _tell(self, vips: frozenset[Held]) -> None:
        """Write the file, have bird read it if that is new, and see what bird makes of it."""
        settled, text = self._settled, render(vips)
        if text != self._told:
            await trio.to_thread.run_sync(_write, self.options.include_file, text)
        async with open_bird(self.options.control_socket) as bird:
            if text != self._told:
                await bird.configure()
                self._told = text
                log.info("bird_told", vips=sorted(str(vip.address) for vip in vips))
            if await self._look(bird, {protocol_name(vip.address) for vip in vips}):
                settled.set()

    async def _look(self, bird: Bird, names: set[str]) -> bool:
        """Note what bird lacks; return whether it does now what it was told."""
        self._names |= names
        for _ in range(_POLLS):
            now = await bird.protocols()
            if done := names == now.ours & self._names:
                self._names = names
                break
            await trio.sleep(_POLL_S)
        lack = ""
        if names - now.ours:
            # Should somebody include the file later, bird reads it then.
            lack = f'bird.conf lacks: include "{include_pattern(self.options.include_file)}";'
        elif not any(up for _, up in now.sessions):
            lack = "bird has no BGP session that is established"
        if lack and lack != self._lack:
            log.warning("bird_lacks", what=lack)
        self._lack = lack
        return done

    def _say_trouble(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.error("bird_not_told", error=trouble, retry_s=_RETRY_S)
        self._trouble = trouble


def include_pattern(path: Path) -> str:
    """Return a path for bird's `include` that may be missing: a pattern need not match."""
    return str(path.with_name(f"{path.stem}*{path.suffix}"))


def _write(path: Path, text: str) -> None:
    """Replace the file at once: bird never reads a half of it. Raises OSError."""
    number, temporary = tempfile.mkstemp(dir=path.parent, prefix=".galelb-")
    try:
        with os.fdopen(number, "w") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
