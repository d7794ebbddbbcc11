# SPDX-License-Identifier: Apache-2.0
"""Flows without a data path, for tests of what shares them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from galelb.errors import RemoteProtocolError
from galelb.flowshare import Accepted, SourceAddress

__all__ = ["FakeFlows"]


class FakeFlows:
    """A FlowShare over a dict: a flow's name, and how often it has changed.

    `before` is called with the name of each method that blocks, before its work: let it raise, or
    note who calls.
    """

    def __init__(self, names: Sequence[str] = (), *, batch: int = 10) -> None:
        self.flows = dict.fromkeys(names, 1)
        self.batch = batch
        """Flows of one batch."""
        self.before: Callable[[str], None] = lambda method: None
        self.permitted: list[tuple[float | None, bool]] = []
        self.room: tuple[SourceAddress, ...] = ()
        self.sources: tuple[SourceAddress, ...] = ()
        self._changed: dict[str, int] = dict(self.flows)
        self._made: set[str] = set()

    def touch(self, *names: str) -> None:
        """Make flows, or change them."""
        for name in names:
            self.flows[name] = self._changed[name] = self.flows.get(name, 0) + 1

    def make(self, *names: str) -> None:
        """Make flows, and notice at once."""
        self.touch(*names)
        self._made.update(names)

    def own(self) -> Sequence[SourceAddress]:
        """Return `sources`."""
        return self.sources

    def make_room(self, addresses: Sequence[SourceAddress]) -> None:
        """Keep them in `room`."""
        self.room = tuple(addresses)

    def permit(self, seconds: float | None, *, whole: bool) -> None:
        """Note it in `permitted`."""
        self.permitted.append((seconds, whole))

    @property
    def stirred(self) -> bool:
        """Whether some were made by `make`."""
        self.before("stirred")
        return bool(self._made)

    def news(self) -> list[bytes]:
        """Return what was made since the last call, unless it was told of meanwhile."""
        self.before("news")
        made, self._made = self._made, set()
        new = {name: self._changed.pop(name) for name in made & self._changed.keys()}
        return list(self._batches(new))

    def changes(self) -> list[bytes]:
        """Return what was touched since the last call."""
        self.before("changes")
        changed, self._changed = self._changed, {}
        return list(self._batches(changed))

    def everything(self) -> Iterator[bytes]:
        """Iterate over all flows."""
        self.before("everything")
        return self._batches(dict(self.flows))

    def accept(self, batch: bytes) -> Accepted:
        """Take in flows that are newer than what is here. Raises RemoteProtocolError."""
        self.before("accept")
        flows = _read(batch)
        known = {name: self.flows.get(name, 0) for name in flows}
        newer = {name: version for name, version in flows.items() if version > known[name]}
        self.flows |= newer
        added = sum(not known[name] for name in newer)
        return Accepted(added=added, updated=len(newer) - added, known=len(flows) - len(newer))

    def _batches(self, flows: Mapping[str, int]) -> Iterator[bytes]:
        lines = [f"{name} {version}\n" for name, version in flows.items()]
        for first in range(0, len(lines), self.batch):
            yield "".join(lines[first : first + self.batch]).encode()


def _read(batch: bytes) -> dict[str, int]:
    try:
        pairs = [line.split(" ") for line in batch.decode().splitlines()]
        return {name: int(version) for name, version in pairs}
    except ValueError as error:
        raise RemoteProtocolError(f"not a batch of flows: {error}") from error
