# SPDX-License-Identifier: Apache-2.0
"""How long everything takes, by the size of the group; docs/design/005-gossip.md derives it."""

from __future__ import annotations

import functools
import math

import attrs

__all__ = ["Settings", "Timing", "timing"]


@attrs.frozen(kw_only=True)
class Settings:
    """What can be tuned; times are seconds, and those of a group of up to `small` members."""

    probe_s: float = 0.2
    small: int = 10
    """Members up to which everything runs at full speed; twice as many, half the speed."""
    slowest: float = 5.0
    """Times are never stretched by more than this."""
    helpers: int = 3
    """Members that are asked to ping one that does not answer (SWIM's k)."""
    confirmations: int = 2
    """Independent suspicions after which the shortest time-out holds (Lifeguard's K)."""
    suspicion_periods: float = 2.0
    """Shortest time-out of a suspicion: periods times log10 of the members (Lifeguard's alpha)."""
    suspicion_stretch: float = 6.0
    """Time-out of an unconfirmed suspicion, in shortest ones (Lifeguard's beta)."""
    worst_health: int = 8
    """Highest score of local health (Lifeguard's S)."""
    spread: int = 4
    """News is sent spread * ceil(log10(members + 1)) times by each member (lambda)."""
    fanout: int = 3
    """Members that get news at a time."""
    forget_s: float = 24 * 3600.0
    """Members that are dead or left are remembered for this long."""
    members: int = 256
    """Most members that are known at a time, dead ones among them."""
    records: int = 4096
    """Most records of one origin, deleted ones among them."""
    queue: int = 1024
    """Most pieces of news that wait to be spread."""
    relays: int = 256
    """Most pings that are done for others at a time."""


@attrs.frozen(kw_only=True)
class Timing:
    """Times in seconds for a group of one size."""

    probe_s: float
    """Between probes, and from the start of a probe to its failure."""
    ack_s: float
    """From a ping to asking helpers."""
    nack_s: float
    """From a request to a helper to its Nack: in time if the helper and the way to it work."""
    gossip_s: float
    """Between datagrams with news, while there is news."""
    suspicion_least_s: float
    suspicion_most_s: float
    exchange_s: float
    """Between exchanges of all that is known."""
    reconnect_s: float
    """Between exchanges with one of those that are dead or have not been met."""
    retransmits: int


@functools.lru_cache(maxsize=512)
def timing(settings: Settings, members: int) -> Timing:
    """Return the times for a group of `members` live members, oneself among them."""
    stretch = min(settings.slowest, max(1.0, members / settings.small))
    probe_s = settings.probe_s * stretch
    ack_s = 0.3 * probe_s
    least_s = settings.suspicion_periods * probe_s * max(1.0, math.log10(members))
    return Timing(
        probe_s=probe_s,
        ack_s=ack_s,
        nack_s=(probe_s - ack_s) / 2,
        gossip_s=0.25 * probe_s,
        suspicion_least_s=least_s,
        suspicion_most_s=least_s * settings.suspicion_stretch,
        exchange_s=25 * probe_s,
        reconnect_s=10 * probe_s,
        retransmits=settings.spread * math.ceil(math.log10(members + 1)),
    )
