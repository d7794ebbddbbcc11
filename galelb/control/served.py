# SPDX-License-Identifier: Apache-2.0
"""What a balancer serves at present."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from galelb.forwarder import BpfMap, Forwarder, HostView
from galelb.model import Service

__all__ = ["Served"]


@attrs.frozen(kw_only=True)
class Served:
    """Services by id, who forwards them, and where the maps are."""

    services: Mapping[int, Service]
    forwarders: Mapping[str, Forwarder]
    host: HostView
    maps: Mapping[str, BpfMap]
    retired: tuple[int, ...] = ()
    """Ids of services that are no longer served; their entries are cleared."""
