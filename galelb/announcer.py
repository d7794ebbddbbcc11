# SPDX-License-Identifier: Apache-2.0
"""The base class of announcers, which tell the network which balancer has a VIP."""

from __future__ import annotations

import abc
import enum
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from galelb.forwarder import Options
from galelb.model import Interface, IPAddress

if TYPE_CHECKING:
    import trio

    from galelb.config import BalancerConfig

__all__ = ["Announcer", "AnnouncerContext", "Held", "HeldKind"]


class HeldKind(enum.StrEnum):
    """What an address is for."""

    VIP = "vip"
    """Clients connect to it."""
    SOURCE = "source"
    """Packets to nodes come from it, and their answers go to it."""


@attrs.frozen(kw_only=True, order=False)
class Held:
    """An address that a balancer holds for now."""

    address: IPAddress
    interface: str
    """Where it is: packets to it come in here."""
    kind: HeldKind


@attrs.frozen(kw_only=True)
class AnnouncerContext:
    """What the core lends to an announcer."""

    config: BalancerConfig
    directory: Path
    """The instance's folder."""
    interfaces: Callable[[], Mapping[str, Interface]]
    """The machine's interfaces by name, as they were at the start, with the addresses that an
    earlier run held; does not block."""


class Announcer(abc.ABC):
    """Tells the network where VIPs are. The core puts them on interfaces and takes them off."""

    name: ClassVar[str]
    Options: ClassVar[type[Options]] = Options
    every_balancer: ClassVar[bool] = False
    """Whether all balancers that can forward announce each VIP at once, and the router chooses
    (ECMP). VIPs are on the loopback interface then, else on the public one of their owner."""

    def __init__(self, options: Any, context: AnnouncerContext) -> None:
        self.options = options
        self.context = context

    @abc.abstractmethod
    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Call `task_status.started()` when ready, then work until cancelled.

        Raises GaleError when it cannot work at all.
        """

    @abc.abstractmethod
    def announce(self, vips: Collection[Held]) -> None:
        """Announce exactly these from now on, which are on their interfaces; must not block.

        Called anew, also with the same ones, whenever something changed. What a VIP was
        announced for before and is not any more must be withdrawn where the protocol can.
        """

    @abc.abstractmethod
    async def withdraw(self) -> None:
        """Withdraw all; returns when the network knows, or after 1 s at most."""

    def reload(self, options: Any, config: BalancerConfig) -> None:
        """Go on with other options after a reload; must not block. Raises GaleError."""
        del config
        self.options = options

    def notes(self) -> list[str]:
        """Return what `galelb status` should say, one sentence each; must not block."""
        return []
