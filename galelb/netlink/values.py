# SPDX-License-Identifier: Apache-2.0
"""What netlink answers and announces, as frozen values."""

from __future__ import annotations

import enum

import attrs

from galelb.model import IPAddress

__all__ = [
    "AddressChanged",
    "Lent",
    "LentState",
    "LinkChanged",
    "Neighbour",
    "NeighbourChanged",
    "NeighbourState",
    "NetlinkEvent",
    "Overflow",
    "Route",
    "RouteChanged",
]


class NeighbourState(enum.StrEnum):
    """The kernel's state of a neighbour (NUD_*)."""

    NONE = "none"
    INCOMPLETE = "incomplete"
    REACHABLE = "reachable"
    STALE = "stale"
    DELAY = "delay"
    PROBE = "probe"
    FAILED = "failed"
    NOARP = "noarp"
    PERMANENT = "permanent"

    @classmethod
    def of_kernel(cls, bits: int) -> NeighbourState:
        """Return the state for the kernel's bits; unknown bits count as none."""
        return _STATES.get(bits, cls.NONE)

    @property
    def has_mac(self) -> bool:
        """Whether the link-layer address of an entry in this state may be used."""
        return self not in _WITHOUT_MAC


_STATES = {
    0x01: NeighbourState.INCOMPLETE,
    0x02: NeighbourState.REACHABLE,
    0x04: NeighbourState.STALE,
    0x08: NeighbourState.DELAY,
    0x10: NeighbourState.PROBE,
    0x20: NeighbourState.FAILED,
    0x40: NeighbourState.NOARP,
    0x80: NeighbourState.PERMANENT,
}
_WITHOUT_MAC = (NeighbourState.NONE, NeighbourState.INCOMPLETE, NeighbourState.FAILED)


@attrs.frozen(kw_only=True)
class Route:
    """How the kernel would send to an address; `mtu` (bytes) only if the route sets one."""

    ifindex: int
    gateway: IPAddress | None = None
    prefsrc: IPAddress | None = None
    mtu: int | None = None


@attrs.frozen(kw_only=True)
class Neighbour:
    """An entry of the neighbour table; `mac` is None while it is not usable."""

    ifindex: int
    address: IPAddress
    mac: str | None
    state: NeighbourState


class LentState(enum.Enum):
    """What became of an address that was to be lent to an interface for some seconds."""

    NEW = enum.auto()
    """It was not there before."""
    RENEWED = enum.auto()
    FOREIGN = enum.auto()
    """Somebody else put it there; it was left alone."""
    MISSING = enum.auto()
    """It is not there."""


@attrs.frozen
class Lent:
    """What became of one address; `error` is for people, of one that is missing."""

    state: LentState
    error: str = ""


@attrs.frozen(kw_only=True)
class LinkChanged:
    """An interface appeared, changed or, with `removed`, went."""

    ifindex: int
    name: str
    mac: str
    mtu: int
    up: bool
    """Administratively up and with carrier."""
    removed: bool = False


@attrs.frozen(kw_only=True)
class NeighbourChanged:
    """An entry of the neighbour table changed or, with `removed`, was dropped."""

    ifindex: int
    address: IPAddress
    mac: str | None
    state: NeighbourState
    removed: bool = False


@attrs.frozen(kw_only=True)
class RouteChanged:
    """A route appeared, changed or, with `removed`, went; `prefix` is 0 to 128 bits long."""

    family: int
    table: int
    destination: IPAddress | None
    """None for a default route."""
    prefix: int
    ifindex: int | None
    removed: bool = False


@attrs.frozen(kw_only=True)
class AddressChanged:
    """An interface got or changed an address or, with `removed`, lost it."""

    ifindex: int
    address: IPAddress
    prefix: int
    removed: bool = False


@attrs.frozen
class Overflow:
    """Events were lost: read everything again."""


NetlinkEvent = LinkChanged | NeighbourChanged | RouteChanged | AddressChanged | Overflow
