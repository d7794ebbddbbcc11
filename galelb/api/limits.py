# SPDX-License-Identifier: Apache-2.0
"""How much a request may ask for; numbers that routes, checks and documents share."""

from __future__ import annotations

__all__ = [
    "DEFAULT_EVENTS",
    "DEFAULT_PAGE",
    "DEFAULT_SECONDS",
    "DEFAULT_SNAPLEN",
    "MAX_COUNT",
    "MAX_CURSOR",
    "MAX_EVENTS",
    "MAX_OFFSET",
    "MAX_PAGE",
    "MAX_SECONDS",
    "MAX_SNAPLEN",
    "MAX_STREAMS",
    "MAX_WEIGHT",
    "MIN_SNAPLEN",
]

MAX_WEIGHT = 1000
"""Largest weight that an operator can give a node."""
DEFAULT_PAGE, MAX_PAGE = 100, 1000
MAX_OFFSET = 100_000
"""Whoever wants more uses cursors, which cost no more on the last page than on the first."""
MAX_CURSOR = 512
DEFAULT_EVENTS, MAX_EVENTS = 100, 1000
MAX_STREAMS = 32
"""Streams of events over TCP, and as many over the unix socket."""
MIN_SNAPLEN, DEFAULT_SNAPLEN, MAX_SNAPLEN = 64, 256, 9216  # GALE_CAPTURE_SNAP, bpf/capture.h
MAX_COUNT = 1_000_000_000
DEFAULT_SECONDS, MAX_SECONDS = 3600, 86_400
