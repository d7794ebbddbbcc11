# SPDX-License-Identifier: Apache-2.0
"""What a node knows of the tunnels that end on it."""

from __future__ import annotations

import enum

import attrs

from galelb.model import IPAddress

__all__ = ["End", "Outcome"]


@attrs.frozen
class End:
    """One end of tunnels: an address, and the UDP port of GUE or 0 for IP in IP."""

    address: IPAddress
    port: int = 0


class Outcome(enum.IntEnum):
    """What became of a packet; the index of its counter in the program."""

    PASSED = 0  # expected: no tunnel that ends here
    UNPACKED = 1  # expected
    MALFORMED = 2  # hostile or broken: passed, and the kernel has no use for it
    FOREIGN = 3  # the inner packet is to no VIP of ours: passed, as before
    CONGESTED = 4  # dropped: it met congestion, and its sender understands no other sign
    BROKEN = 5  # bug: dropped because a helper failed that cannot fail
