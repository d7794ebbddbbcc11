# SPDX-License-Identifier: Apache-2.0
"""Brings the flows of all forwarders to the maps of another generation, or says which are lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import structlog
import trio

from galelb.datapath.carrying import Carried, Carrying, NotCarriedError, begin
from galelb.datapath.flow_maps import FlowMaps
from galelb.errors import GaleError
from galelb.forwarder import DataPath, Forwarder, ForwardingView, HostView
from galelb.plugins.blame import blamed

__all__ = ["Migration"]

log = structlog.get_logger("galelb.flows")


class Migration:
    """Flows on their way; a forwarder that fails loses its own, and never keeps us from starting.

    `tell` hears of every forwarder, once, with the reason if flows are lost.
    """

    def __init__(self, tell: Callable[[Carried, str], None]) -> None:
        self._tell = tell
        self._under_way: list[Carrying] = []

    async def copy(
        self,
        former: Sequence[FlowMaps],
        forwarder: Forwarder,
        datapath: DataPath,
        view: ForwardingView,
        host: HostView,
    ) -> None:
        """Copy a forwarder's flows from each former set of maps, while these are in use."""
        for one in reversed(former):  # what is newer has the last word
            before = len(self._under_way)
            await self._step(one.forwarder, self._begin, one, forwarder, datapath, view, host)
            for carrying in self._under_way[before:]:
                await self._step(one.forwarder, carrying.copy, carrying=carrying)

    def _begin(self, *what: Any) -> None:
        if carrying := begin(*what):
            self._under_way.append(carrying)

    async def hold(self) -> None:
        """Let no new flow begin until programs are switched, and bring the rest."""
        for one in tuple(self._under_way):
            await self._step(one.forwarder, one.hold, carrying=one)

    async def resume(self) -> None:
        """Let flows begin in the former maps again: programs are not switched yet."""
        for one in tuple(self._under_way):
            await self._step(one.forwarder, one.resume, carrying=one)

    async def finish(self) -> None:
        """Bring what changed last, and say what became of all."""
        for one in tuple(self._under_way):
            await self._step(one.forwarder, self._finish, one, carrying=one)
        await self.close()

    async def close(self) -> None:
        """Close the maps of old."""
        for one in self._under_way:
            await trio.to_thread.run_sync(one.close)
        self._under_way.clear()

    def _finish(self, carrying: Carrying) -> None:
        result = carrying.finish()
        trio.from_thread.run_sync(self._say, result)

    def _say(self, result: Carried) -> None:
        whole = not result.refused and not result.waiting
        (log.info if whole else log.warning)(
            "flows_carried",
            forwarder=result.forwarder,
            added=result.added,
            refused=result.refused,
            waiting=result.waiting,
            took_s=round(result.took_s, 3),
            held_s=round(result.held_s, 3),
        )
        self._tell(result, "")

    async def _step(
        self,
        name: str,
        work: Callable[..., None],
        *arguments: object,
        carrying: Carrying | None = None,
    ) -> None:
        try:
            with blamed(name, "bringing flows over"):
                await trio.to_thread.run_sync(work, *arguments)
        except GaleError as error:
            log.error(  # noqa: TRY400 - for users
                "flows_lost", forwarder=name, reason=str(error), known=_expected(error)
            )
            self._tell(Carried(forwarder=name), str(error))
            if carrying is not None:
                self._under_way.remove(carrying)
                await trio.to_thread.run_sync(_give_up, carrying)


def _give_up(carrying: Carrying) -> None:
    """Leave the maps of old as they were, as far as that can be done."""
    with contextlib.suppress(Exception):
        carrying.resume()
    carrying.close()


def _expected(error: GaleError) -> bool:
    """Whether that was to be expected of such an upgrade, and is no defect."""
    return isinstance(error, NotCarriedError)
