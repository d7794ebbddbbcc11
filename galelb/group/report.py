# SPDX-License-Identifier: Apache-2.0
"""What `galelb peers` and the API tell of a group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import trio

from galelb.api.view import GroupStatus, PeerStatus
from galelb.control import metric_families as family
from galelb.group.addresses import Addresses
from galelb.group.identity import Identity
from galelb.group.peers import KnownPeer
from galelb.group.quorum import Standing
from galelb.group.state import GroupState
from galelb.model import IPAddress, Metric, Peer

__all__ = ["Lag", "metrics", "peer_statuses", "status"]


EVERY_BALANCER = "all"
"""Who owns VIPs that routers spread over all balancers (ECMP)."""


class Lag(Protocol):
    """How current copies of flows are."""

    @property
    def lags(self) -> Mapping[str, float]:
        """Seconds by which each peer's copy of our flows is behind."""

    def behind(self, peer: str) -> tuple[bool, float | None] | None:
        """Return whether our copy of a peer's flows is complete, and how far it is behind."""


def status(
    state: GroupState, addresses: Addresses, transport: str, vips: Iterable[IPAddress]
) -> GroupStatus:
    """Return this balancer's place in its group."""
    now = trio.current_time()
    together = bool(addresses.config.announce.gateways)
    owners: dict[IPAddress, str | None] = state.owners(vips, now, together=together)
    if addresses.announcer is not None and addresses.announcer.every_balancer:
        owners = dict.fromkeys(owners, EVERY_BALANCER)
    holdings = addresses.holdings
    return GroupStatus(
        name=state.name,
        transport=transport,
        standing=state.standing.value,
        alive=1 + len(state.counted()),
        configured=state.size,
        ready=state.about.ready,
        config_digest=state.about.config,
        tables_digest=state.about.tables,
        vips={str(vip): owner or "" for vip, owner in owners.items()},
        sources=tuple(sorted(map(str, holdings.own | holdings.inherited | holdings.gateways))),
    )


def metrics(state: GroupState, addresses: Addresses) -> list[Metric]:
    """Return the metrics of the group."""
    holdings = addresses.holdings
    counts = {"configured": state.size, "alive": 1 + len(state.counted())}
    kinds = {
        "vip": holdings.vips,
        "own": holdings.own,
        "inherited": holdings.inherited,
        "gateway": holdings.gateways,
    }
    return [
        *(family.GROUP_STANDING.sample(one is state.standing, one.value) for one in Standing),
        *(family.GROUP_BALANCERS.sample(count, which) for which, count in counts.items()),
        family.GROUP_READY.sample(state.about.ready),
        *(family.GROUP_ADDRESSES.sample(len(found), kind) for kind, found in kinds.items()),
    ]


def peer_statuses(state: GroupState, identity: Identity, lag: Lag) -> tuple[PeerStatus, ...]:
    """Return the peers: those that are configured in their order, then others by name."""
    by_place = {(one.peer.address, one.peer.port): one for one in state.peers.values()}
    shown = []
    for address, port in identity.peers:
        known = by_place.pop((address, port), None)
        if known is None:
            peer = Peer(address=address, port=port)
            shown.append(PeerStatus(peer=peer, note="it was never heard"))
        else:
            shown.append(_status(state, known, lag))
    others = sorted(by_place.values(), key=lambda one: one.peer.name)
    return (*shown, *(_status(state, known, lag) for known in others))


def _status(state: GroupState, known: KnownPeer, lag: Lag) -> PeerStatus:
    about, peer = known.about, known.peer
    copy = lag.behind(peer.name)
    return PeerStatus(
        peer=peer,
        version=about.version if about else "",
        ready=about.ready if about else None,
        config_digest=about.config if about else "",
        same_config=state.same_config(known),
        tables_digest=about.tables if about else "",
        same_tables=about.tables == state.about.tables if about else None,
        last_seen_s=0.0 if peer.alive else trio.current_time() - known.since,
        lag_s=lag.lags.get(peer.name),
        copy_complete=None if copy is None else copy[0],
        copy_behind_s=None if copy is None else copy[1],
        note=_note(state, known),
    )


def _note(state: GroupState, known: KnownPeer) -> str:
    if known.peer.alive and not state.heeds(known):
        return "ignored: another configuration" if known.about else "ignored: says nothing yet"
    if known.bad_records:
        return f"{known.bad_records} of its records could not be read"
    return ""
