# SPDX-License-Identifier: Apache-2.0
"""What a plan is made from, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import attrs

from galelb.config import BalancerConfig
from galelb.model import NodeRecord, Service

__all__ = ["Change", "KnownNode", "NodeChange", "Plan", "ServiceChange", "SettingChange", "Side"]

Change = Literal["added", "removed", "changed", "same"]


@attrs.frozen(kw_only=True)
class KnownNode:
    """A node with what decides what another configuration makes of it."""

    record: NodeRecord
    weight_from: str = "config"
    """Whose word its weight is: operator, node, config or default."""
    reporters: frozenset[str] = frozenset()
    """The health sources that it reports by."""
    objected: bool = False
    """Whether a health source says that it must get no traffic."""
    refused: str = ""
    """Why no forwarder takes it, though it is healthy."""


@attrs.frozen(kw_only=True)
class Side:
    """A configuration with the services and nodes that it makes, before or after a change."""

    config: BalancerConfig
    services: tuple[Service, ...]
    nodes: tuple[KnownNode, ...]
    ids: Mapping[str, int] = attrs.Factory(dict)
    """Numbers of the services by `service_key`, as far as they are known."""
    digests: Mapping[str, str] = attrs.Factory(dict)
    """Digests of the tables that a balancer really has, by `service_key`; none when offline."""
    hidden: tuple[str, ...] = ()
    """Settings that could not be seen, since they are secret."""


@attrs.frozen(kw_only=True)
class SettingChange:
    """One key of the configuration with another value; None = not there."""

    key: str
    before: str | None
    after: str | None


@attrs.frozen(kw_only=True)
class NodeChange:
    """What becomes of one node."""

    address: str
    name: str
    change: Change
    details: tuple[str, ...] = ()
    weight_before: float | None = None
    """What of its weight counts, 0 when it gets no new flows; None = the node is not there."""
    weight_after: float | None = None


@attrs.frozen(kw_only=True)
class ServiceChange:
    """What becomes of one service."""

    name: str
    change: Change
    forwarder: str
    moved: float | None
    """Share (0 to 1) of its lookup table that names another node then; None = there is no table
    on one of the sides."""
    stateful: bool
    """Whether open connections keep their node, so that only new ones move."""
    nodes_before: int | None
    nodes_after: int | None
    table_digest: str = ""
    """The digest that the table will have, as `galelb services` shows it; "" = no table."""
    details: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Plan:
    """What a change would do."""

    settings: Sequence[SettingChange]
    nodes: Sequence[NodeChange]
    services: Sequence[ServiceChange]
    restart: Sequence[str] = ()
    """Why a reload would refuse it, one sentence for each key that only a restart can change."""
    recompiles: bool | None = None
    """Whether other programs have to be compiled and attached; None = that cannot be told."""
    notes: Sequence[str] = ()

    @property
    def nothing(self) -> bool:
        """Whether it changes nothing at all."""
        changes = {one.change for one in self.nodes} | {one.change for one in self.services}
        return not self.settings and changes <= {"same"}
