# SPDX-License-Identifier: Apache-2.0
"""What a balancer serves at present."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from galelb.forwarder import BpfMap, Forwarder, HostView
from galelb.model import NodeSetup, Service

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
    _setups: list[tuple[NodeSetup, ...]] = attrs.field(
        init=False, factory=list, eq=False, repr=False
    )
    """At most one: what `node_setups` found; it is asked for with every report of a node."""

    def notes(self) -> list[str]:
        """Return what the forwarders find worth a line at start."""
        return [
            note
            for name, forwarder in self.forwarders.items()
            for note in forwarder.notes(
                [s for s in self.services.values() if s.forwarder == name], self.host
            )
        ]

    def node_setups(self) -> tuple[NodeSetup, ...]:
        """Return what nodes must be set up for, each once and in a fixed order."""
        if not self._setups:
            found = {
                setup
                for service in self.services.values()
                for setup in self.forwarders[service.forwarder].node_setups(service)
            }
            ordered = sorted(found, key=lambda one: (one.kind, str(one.vip), one.port))
            self._setups.append(tuple(ordered))
        return self._setups[0]
