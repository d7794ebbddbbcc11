# SPDX-License-Identifier: Apache-2.0
"""Brings flows from the maps of former programs to those of now, while packets go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import attrs

from galelb.bpf.maps import PinnedMap, close_maps, open_maps
from galelb.datapath.flow_maps import FlowMaps
from galelb.errors import GaleError
from galelb.flowshare import Accepted, FlowShare
from galelb.forwarder import BpfMap, DataPath, Forwarder, ForwardingView, HostView

__all__ = ["Carried", "Carrying", "FormerDataPath", "NotCarriedError", "begin"]

_MOST_ROUNDS = 5
_FEW = 64
"""With so few flows in a round the rest is left for when no new ones begin."""


class NotCarriedError(GaleError):
    """The flows of former maps cannot be brought over; the text says why."""


@attrs.frozen(kw_only=True)
class Carried:
    """What became of a forwarder's flows. Numbers are flows, times are seconds."""

    forwarder: str
    added: int = 0
    refused: int = 0
    waiting: int = 0
    """Their node or service is not known: they go if that does not change."""
    took_s: float = 0.0
    held_s: float = 0.0
    """How long no new flow could begin."""


@attrs.frozen
class FormerDataPath:
    """A forwarder's view of maps with flows of old; programs and other maps are those of now."""

    maps: Mapping[str, BpfMap]
    run_program: Callable[..., tuple[int, bytes]]


class Carrying:
    """The flows of one forwarder on their way. All methods block: use a worker thread.

    `copy` brings all while old programs go on. From `hold` until programs are switched no new
    flow begins, so that the rest, which `hold` brings, is all there is: a flow that began
    unseen would get another port, and break. `finish` brings what packets changed last.
    """

    def __init__(
        self,
        forwarder: str,
        old: FlowShare,
        new: FlowShare,
        *,
        done: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.forwarder = forwarder
        self._old = old
        self._new = new
        self._done = done
        self._clock = clock
        self._began = clock()
        self._held: float | None = None
        self._sum = Carried(forwarder=forwarder)

    def copy(self) -> None:
        """Bring all flows, then those that changed meanwhile, until they are few."""
        self._old.changes()  # what changes from here on is told later
        for batch in self._old.everything():
            self._take(batch)
        for _ in range(_MOST_ROUNDS):
            if self._catch_up() <= _FEW:
                return

    def hold(self) -> None:
        """Let no new flow begin, and bring the rest."""
        self._held = self._clock()
        self._old.permit(0, whole=True)
        self._catch_up()

    def resume(self) -> None:
        """Let new flows begin in the old maps again: programs were not switched."""
        if self._held is not None:
            self._old.permit(None, whole=True)

    def finish(self) -> Carried:
        """Bring what the last packets of old programs changed; return what became of all."""
        now = self._clock()
        self._catch_up()
        held = now - self._held if self._held is not None else 0.0
        return attrs.evolve(self._sum, took_s=self._clock() - self._began, held_s=held)

    def close(self) -> None:
        """Close the maps of old."""
        self._done()

    def _catch_up(self) -> int:
        """Return how many flows were news."""
        news = 0
        for batch in self._old.changes():
            result = self._take(batch)
            news += result.added + result.updated
        return news

    def _take(self, batch: bytes) -> Accepted:
        result = self._new.accept(batch)
        self._sum = attrs.evolve(
            self._sum,
            added=self._sum.added + result.added,
            refused=self._sum.refused + result.refused,
            waiting=self._sum.waiting + result.waiting,
        )
        return result


def begin(
    former: FlowMaps,
    forwarder: Forwarder,
    datapath: DataPath,
    view: ForwardingView,
    host: HostView,
) -> Carrying | None:
    """Return how to bring flows over, None if these maps are no more, as after a reboot.

    Blocks. Raises NotCarriedError, and flows of old are lost.
    """
    if not any(layout.pin.exists() for layout in former.maps.values()):
        return None
    maps = _opened(former)
    try:
        others = {n: m for n, m in datapath.maps.items() if n not in forwarder.flow_maps}
        former_path = FormerDataPath(others | maps, datapath.run_program)
        old = forwarder.former_flows(former_path, datapath, former.layout, view)
        new = forwarder.flow_share(datapath, host) if old is not None else None
    except BaseException:
        close_maps(maps)
        raise
    if old is None or new is None:
        close_maps(maps)
        raise NotCarriedError("this version cannot read the flows of the former one")
    return Carrying(former.forwarder, old, new, done=lambda: close_maps(maps))


def _opened(former: FlowMaps) -> dict[str, PinnedMap]:
    try:
        return open_maps(former.maps)
    except (GaleError, ValueError, KeyError, TypeError) as error:
        raise NotCarriedError(f"their maps cannot be opened: {error}") from error
