# SPDX-License-Identifier: Apache-2.0
"""How a stateful forwarder shares its flows with the other balancers of a group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import attrs

from galelb.model import IPAddress

__all__ = ["MAX_BATCH", "Accepted", "FlowShare", "SourceAddress"]

MAX_BATCH = 1 << 16
"""Bytes of one batch of flows."""


@attrs.frozen(kw_only=True)
class SourceAddress:
    """An address that packets to nodes come from, and the ports that are used with it."""

    address: IPAddress
    first_port: int
    last_port: int


@attrs.frozen(kw_only=True)
class Accepted:
    """What became of the flows of one batch."""

    added: int = 0
    updated: int = 0
    known: int = 0
    """Nothing of them was new."""
    waiting: int = 0
    """Their node or service is not known here yet; they are tried again after the next plan."""
    refused: int = 0
    """There is no room, or their port is in use by a flow that is newer."""


class FlowShare(Protocol):
    """The flows of one forwarder. All methods but those that say so block: use a worker thread.

    Batches are the forwarder's own format, versioned, and name nodes, services and addresses by
    what they are, since numbers differ between balancers. They come from authenticated peers,
    and still must not do more harm than wrong flows: a batch that cannot be read raises
    `RemoteProtocolError` and changes nothing.
    """

    def own(self) -> Sequence[SourceAddress]:
        """Return the addresses that new flows of this balancer are translated to; no blocking."""

    def make_room(self, addresses: Sequence[SourceAddress]) -> None:
        """Have the next plans keep room for flows on these addresses of peers; no blocking."""

    def permit(self, seconds: float | None, *, whole: bool) -> None:
        """Permit new flows for so long from now, None = for ever; 0 = none; no blocking.

        Flows that exist go on whatever this says. `whole` is whether all flows of the peers are
        here: while they are not, packets of unknown flows make none, and answers of nodes for
        unknown flows are dropped, which the kernel would reset.
        """

    def changes(self) -> list[bytes]:
        """Return batches with the flows that are new or changed since the last call.

        What `accept` brought in is not among them.
        """

    @property
    def stirred(self) -> bool:
        """Return whether flows may have been made since the last `news`; no blocking."""

    def news(self) -> list[bytes]:
        """Return batches with flows that were made since the last call, as many as are found fast.

        `changes` returns those that are missing, and does not return these again.
        """

    def everything(self) -> Iterator[bytes]:
        """Iterate over batches with all flows, those of peers too."""

    def accept(self, batch: bytes) -> Accepted:
        """Take in a batch of a peer.

        Raises:
            RemoteProtocolError: it cannot be read.
        """
