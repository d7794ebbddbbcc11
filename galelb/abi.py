# SPDX-License-Identifier: Apache-2.0
"""Numbers that C and Python share; rendered to #defines when a program is composed."""

from __future__ import annotations

import enum

__all__ = [
    "NODE_FILTER_WORDS",
    "NO_TABLE",
    "CaptureFlag",
    "EventType",
    "Family",
    "NextHopFlag",
    "NodeFlag",
    "Reason",
    "TraceStep",
    "defines",
]

NO_TABLE = 0xFFFFFFFF
"""`gale_service.table` of a service without a routable node."""


NODE_FILTER_WORDS = 256
"""Elements of gale_node_filter, of 64 bits each: 1,000 nodes set one bit of sixteen."""


class Reason(enum.IntEnum):
    """Why a packet left the program as it did. Retired numbers are never reused."""

    kind: str
    """What to think of it: expected, transient, unexpected, ...; "" where that depends."""
    meaning: str
    """One line for people."""

    def __new__(cls, number: int, kind: str = "", meaning: str = "") -> Reason:
        """Make one of a number and what it means; equal to the number."""
        one = int.__new__(cls, number)
        one._value_ = number
        one.kind = kind
        one.meaning = meaning
        return one

    PASS_FOREIGN = 0, "expected", "not for a service and not claimed"
    PASS_UNPARSABLE = 1, "expected", "ARP, unknown ethertype, truncated header"
    FORWARDED = 2, "expected", "to a node"
    RETURNED = 3, "expected", "back to a client"
    ICMP_TRANSLATED = 4, "expected", "an ICMP error about a flow of ours"
    FRAGMENT_FOLLOWED = 5, "expected", "a later fragment went where the first one went"
    ICMP_SENT = 6, "expected", "answered with time exceeded or packet too big of our own"
    RESET_SENT = 7, "expected", "told a client that its flow is gone"
    NO_NODE = 8, "unexpected", "the service has no routable node"
    NO_NEIGHBOUR = 9, "transient", "the next hop has no link-layer address yet"
    NO_FLOW = 10, "expected", "no entry and not allowed to make one (a RST, or copy incomplete)"
    TABLE_FULL = 11, "unexpected", "no free entry or port"
    FLOW_BUSY = 12, "transient", "another CPU is making an entry with the same hash"
    FRAGMENT_UNKNOWN = 13, "transient", "a later fragment came before its first"
    TTL_EXCEEDED = 14, "expected", "would reach 0, and the answer was rate-limited"
    TOO_BIG = 15, "expected", "exceeds the way out's MTU, and the answer was rate-limited"
    HAIRPIN = 16, "", "a node is the client, and the forwarder cannot carry that"
    NODE_GONE = 17, "transient", "the flow's node no longer exists"
    MALFORMED = 18, "hostile or broken", "claims lengths that the packet does not have"
    ICMP_UNKNOWN = 19, "expected", "an ICMP error to a VIP about no flow of ours"
    INTERNAL = 20, "bug", "a helper failed that cannot fail"
    NO_LEASE = 21, "transient", "the group permits this balancer no new flows now"


class Family(enum.IntEnum):
    """Address families as C sees them."""

    IPV4 = 4
    IPV6 = 6


class NodeFlag(enum.IntFlag):
    """`gale_node.flags`."""

    PRESENT = 1
    DOWN = 2
    DRAINING = 4
    IPV6 = 8


class NextHopFlag(enum.IntFlag):
    """`gale_next_hop.flags`; without VALID a program asks the FIB."""

    VALID = 1


class EventType(enum.IntEnum):
    """`gale_event.type`: what a program tells the control plane."""

    NO_NEIGHBOUR = 1
    NEW_NEXT_HOP = 2


class CaptureFlag(enum.IntFlag):
    """`gale_capture_wish.flags`."""

    FOREIGN = 1  # what is passed without belonging to a service, too
    DROPPED = 2  # only what is dropped


class TraceStep(enum.IntEnum):
    """`gale_trace_step.what`: what programs that are compiled for a trace note of a packet."""

    PARSED = 1
    SERVICE = 2
    QUOTED = 3
    PROGRAM = 4
    SLOT = 5
    FLOW = 6
    FLOW_MADE = 7
    NEXT_HOP = 8
    REPLY = 9
    REDIRECT = 10
    EXIT = 11


def defines() -> dict[str, int]:
    """All shared numbers as C macro names and values."""
    families: tuple[tuple[str, type[enum.IntEnum] | type[enum.IntFlag]], ...] = (
        ("GALE_REASON", Reason),
        ("GALE_FAMILY", Family),
        ("GALE_NODE", NodeFlag),
        ("GALE_NEXT_HOP", NextHopFlag),
        ("GALE_EVENT", EventType),
        ("GALE_STEP", TraceStep),
        ("GALE_CAPTURE", CaptureFlag),
    )
    numbers = {f"{prefix}_{m.name}": int(m) for prefix, kind in families for m in kind}
    return numbers | {
        "GALE_REASONS": max(Reason) + 1,
        "GALE_NO_TABLE": NO_TABLE,
        "GALE_NODE_FILTER_WORDS": NODE_FILTER_WORDS,
    }
