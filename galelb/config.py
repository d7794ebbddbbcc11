# SPDX-License-Identifier: Apache-2.0
"""lb.toml as a validated, frozen value: the models and the functions that read the file."""

from __future__ import annotations

from galelb.config_models import (
    AnnounceSection,
    BalancerConfig,
    ForwardingSection,
    InstanceSection,
    NodeHealthSection,
    NodeSection,
    PeerAddress,
    PrivateInterfaceSection,
    PublicInterfaceSection,
    QuorumSection,
    ServiceSection,
)
from galelb.durations import Duration, format_duration, parse_duration

__all__ = [
    "AnnounceSection",
    "BalancerConfig",
    "Duration",
    "ForwardingSection",
    "InstanceSection",
    "NodeHealthSection",
    "NodeSection",
    "PeerAddress",
    "PrivateInterfaceSection",
    "PublicInterfaceSection",
    "QuorumSection",
    "ServiceSection",
    "format_duration",
    "parse_duration",
]
