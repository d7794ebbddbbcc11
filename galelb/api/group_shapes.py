# SPDX-License-Identifier: Apache-2.0
"""The shapes of answers about the group of balancers; see `galelb.api.shapes`."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from galelb.api.node_shapes import described

__all__ = ["Group", "Peer", "Peers"]


@described
class Peer(TypedDict):
    """Another balancer of the group."""

    name: str
    """Its name in the group; empty = it was never heard of."""
    address: str
    """Its address."""
    port: int
    """Its load_balancer_port."""
    alive: bool
    """Whether it is heard."""
    left: bool
    """Whether it said goodbye, rather than died."""
    ready: bool | None
    """Whether it may have addresses; null = not told yet."""
    version: str
    """Its version of galelb; empty = not told yet."""
    config_digest: str
    """Digest of its shared configuration; empty = not told yet."""
    same_config: bool | None
    """Whether it shares our configuration; null = not told yet."""
    tables_digest: str
    """Digest of all its lookup tables; empty = not told yet, or none."""
    same_tables: bool | None
    """Whether its lookup tables are ours; null = not told yet."""
    last_seen_s: float | None
    """Since it was last heard, 0 while it is alive; null = never."""
    lag_s: float | None
    """How far its copy of our connections is behind; null = it has none."""
    copy_behind_s: float | None
    """How far our copy of its connections is behind; null = there is none."""
    copy_complete: bool | None
    """Whether all its connections are here; null = no forwarder shares any."""
    note: str
    """What else there is to say."""


@described
class Group(TypedDict):
    """This balancer's place in its group."""

    name: str
    """Its name."""
    transport: str
    """The plugin that carries what balancers tell each other."""
    standing: Literal["forming", "quorate", "cut off"]
    """forming: it has not met a quorum yet; cut off: it has lost it."""
    alive: int
    """Balancers that live and count, this one among them."""
    configured: int
    """Balancers that are configured."""
    ready: bool
    """Whether it may have addresses."""
    config_digest: str
    """Digest of what the group must share."""
    tables_digest: str
    """Digest of all its lookup tables."""
    vips: dict[str, str]
    """The owner of each VIP that moves, by this balancer's view; empty = nobody, all = ECMP."""
    sources: list[str]
    """Translation addresses that it holds: its own, and those of balancers that are gone."""


@described
class Peers(TypedDict):
    """The group of balancers."""

    group: Group | None
    """null for a lone balancer."""
    peers: list[Peer]
    """The others; empty for a lone balancer."""
