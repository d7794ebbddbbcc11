# SPDX-License-Identifier: Apache-2.0
"""The base class of sync transports, which carry what the balancers of a group tell each other.

A transport knows which peers live, and spreads *records*: small values that each balancer writes
under keys of its own and that all others come to see. What records mean is the core's business.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from galelb.forwarder import Options
from galelb.model import IPAddress, Metric, Peer

if TYPE_CHECKING:
    import trio

    from galelb.group.keys import KeyRing

__all__ = ["MAX_RECORDS", "MAX_RECORD_KEY", "MAX_RECORD_VALUE", "SyncTransport", "TransportContext"]

MAX_RECORD_KEY = 64
"""Bytes of a record's key, in UTF-8."""
MAX_RECORD_VALUE = 512
"""Bytes of a record's value."""
MAX_RECORDS = 4096
"""Records of one balancer."""


@attrs.frozen(kw_only=True)
class TransportContext:
    """What the core lends to a sync transport."""

    name: str
    """This balancer's name, unique in the group: 1 to 63 bytes of UTF-8."""
    address: IPAddress
    """Where this balancer listens, and what peers know it by."""
    port: int
    peers: tuple[tuple[IPAddress, int], ...]
    """Where other balancers are configured to be; without oneself."""
    directory: Path
    """The instance's folder, for what must survive a restart."""
    peer_changed: Callable[[Peer], None]
    """A peer joined, died, left, returned or moved; never about oneself."""
    record_changed: Callable[[str, str, bytes | None], None]
    """(peer's name, key, value): a record of a peer is new or has changed; None = deleted."""


class SyncTransport(abc.ABC):
    """Carries membership and records between balancers.

    It promises, and `galelb.testing.contract.transport` tests: all live balancers come to see the
    same records, in the end the last value of each; a peer is announced by `peer_changed` before
    its first record; records of a dead peer are kept until it is forgotten, those of one that left
    are deleted; callbacks are called on the trio thread and never from within `write`.
    """

    name: ClassVar[str]
    Options: ClassVar[type[Options]] = Options

    def __init__(self, options: Any, context: TransportContext) -> None:
        self.options = options
        self.context = context

    @classmethod
    def check(cls, options: Any, addresses: Collection[tuple[IPAddress, int]]) -> list[str]:
        """Return what is wrong with the options for a group at these addresses, a sentence each.

        One's own address may be among them. Called before anything is started; pure.
        """
        del options, addresses
        return []

    @abc.abstractmethod
    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Call `task_status.started()` when ready to meet others, then work until cancelled.

        Peers that cannot be reached are no reason to end or to delay `started`.
        Raises GaleError when it cannot work at all, such as a port in use or a key file that
        cannot be read.
        """

    @abc.abstractmethod
    def write(self, key: str, value: bytes | None) -> None:
        """Tell all peers a record of this balancer's own, None deletes it; must not block.

        May be called before `run`. Raises LocalProtocolError when it breaks a limit.
        """

    @abc.abstractmethod
    async def leave(self) -> None:
        """Say goodbye; returns when peers know, or after 2 s at most. `run` is cancelled then."""

    @property
    @abc.abstractmethod
    def keys(self) -> KeyRing:
        """The group's keys, for other streams between its balancers; after `run` has started."""

    @property
    def deaf(self) -> bool:
        """Whether nothing can be heard of peers now, though they may be well; must not block.

        Nodes go and stay by the last agreed set then. Transports that find peers dead when they
        hear nothing of them never are.
        """
        return False

    def reload(self, options: Any) -> None:
        """Go on with other options, such as other keys, after a reload; must not block.

        Raises GaleError, and goes on as before, if they cannot be used.
        """
        self.options = options

    def notes(self) -> list[str]:
        """Return what `galelb status` should say, one sentence each; must not block."""
        return []

    def metrics(self) -> list[Metric]:
        """Return metrics of the transport's own; must not block."""
        return []
