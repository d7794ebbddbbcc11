# SPDX-License-Identifier: Apache-2.0
"""What a member shows of itself: notes for `galelb status`, and metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator

import trio
from galelb_plugins.sync_gossip.member import Member
from galelb_plugins.sync_gossip.options import GossipOptions

from galelb.model import Metric

__all__ = ["metrics", "notes"]

_GRACE_S = 5.0
"""Peers that start at the same time need not be missed at once."""
_UNWELL = 4
"""Score of local health from which on an operator should know: times are five times as long."""


def notes(member: Member, options: GossipOptions) -> list[str]:
    """Return what an operator should know, one sentence each."""
    now = trio.current_time()
    return [
        f"sync_gossip: {text}"
        for text in (
            *_notes_on_keys(member, options),
            *_notes_on_peers(member, now),
            *member.refusals.notes(now),
        )
    ]


def _notes_on_keys(member: Member, options: GossipOptions) -> Iterator[str]:
    if options.insecure:
        yield (
            "insecure = true: whoever can reach its port can change what this balancer believes of"
            " nodes and peers; set key_file"
        )
    if member.started_at == math.inf:
        return
    others = sorted(set(member.ring.keys) - {member.ring.used})
    for number in others:
        yield f"the key is being changed: {member.ring.used} encrypts, {number} is read, too"


def _notes_on_peers(member: Member, now: float) -> Iterator[str]:
    if now > member.started_at + _GRACE_S:
        for host, port in member.swim.unmet():
            yield f"no balancer of this group was ever met at {host}, port {port}"
    if member.swim.health >= _UNWELL:
        yield (
            f"this balancer itself answers late (health score {member.swim.health} of 8), so it"
            " finds dead peers late: is its machine overloaded, or its network losing packets?"
        )


def metrics(member: Member) -> list[Metric]:
    """Return counters and gauges."""
    return [
        *_counters(member),
        Metric(
            name="galelb_gossip_health_score",
            help="0 is well; each step makes this balancer wait that much longer for answers.",
            value=member.swim.health,
        ),
        *(
            Metric(
                name="galelb_gossip_members",
                help="Other members of the group that are known, by state.",
                value=count,
                labels={"state": state},
            )
            for state, count in member.members().items()
        ),
    ]


def _counters(member: Member) -> Iterator[Metric]:
    def counter(name: str, text: str, value: int, **labels: str) -> Metric:
        return Metric(name=name, help=text, value=value, labels=labels, kind="counter")

    for direction, count in member.datagrams.items():
        text = "Datagrams between balancers."
        yield counter("galelb_gossip_datagrams_total", text, count, direction=direction)
    for (direction, result), count in sorted(member.streams.counts.items()):
        text = "TCP streams between balancers, by who began them and how they ended."
        name = "galelb_gossip_streams_total"
        yield counter(name, text, count, direction=direction, result=result)
    for reason, count in sorted((member.refusals.counts + member.swim.drops).items()):
        text = "Datagrams and streams that were not taken or not sent, and messages not needed."
        yield counter("galelb_gossip_refused_total", text, count, reason=reason)
