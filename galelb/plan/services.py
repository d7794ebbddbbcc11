# SPDX-License-Identifier: Apache-2.0
"""What becomes of each service, and which share of its flows moves: by the real schedulers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from galelb.control.planning import eligible_nodes
from galelb.control.settings import table_settings
from galelb.plan.values import Change, ServiceChange, Side
from galelb.services import service_key
from galelb.tables import digest, moved

if TYPE_CHECKING:
    from galelb.model import Service
    from galelb.plugins import Plugins

__all__ = ["Tables", "service_changes", "strange_tables"]

_KEYS = ("name", "target_port", "forwarder", "scheduler", "nodes")


@attrs.frozen(kw_only=True, eq=False)
class Built:
    """A lookup table: the address that each slot names."""

    slots: tuple[str, ...]
    digest: str
    nodes: int


NOTHING = Built(slots=(), digest="", nodes=0)
"""The table of a service without nodes."""


class Tables:
    """The lookup tables of one side; builds each different one once. Blocks."""

    def __init__(self, side: Side, plugins: Plugins) -> None:
        self._settings = table_settings(side.config)
        self._nodes = [known.record for known in side.nodes]
        self._refused = {k.record.node.address for k in side.nodes if k.refused}
        self._plugins = plugins
        plugins.configure(side.config)
        self.forwarders = {
            name: plugins.forwarder(name)(side.config.plugins[name])
            for name in {service.forwarder for service in side.services}
        }
        self._eligible: dict[tuple[Any, ...], tuple[tuple[str, float], ...]] = {}
        self._built: dict[str, Built] = {}
        self.tables = {service_key(one): self._table(one) for one in side.services}

    def _table(self, service: Service) -> Built:
        """Return the table of a service; nothing when there is no node."""
        nodes = self._nodes_of(service)
        if not nodes:
            return NOTHING
        spec = self._settings.spec(service.scheduler, nodes[: self._settings.size])
        if spec.digest not in self._built:
            table = self._plugins.build_table(service, spec.nodes, spec.size, spec.seed)
            addresses = spec.addresses
            self._built[spec.digest] = Built(
                slots=tuple([addresses[position] for position in table]),
                digest=digest(table, addresses),
                nodes=len(addresses),
            )
        return self._built[spec.digest]

    def _nodes_of(self, service: Service) -> tuple[tuple[str, float], ...]:
        """Return (address, weight) of its nodes; services that take the same ones share them."""
        key = (service.vip.version, service.nodes, service.forwarder)
        if key not in self._eligible:
            forwarder = self.forwarders[service.forwarder]
            self._eligible[key] = eligible_nodes(
                service,
                self._nodes,
                self._refused,
                any_family=forwarder.any_family,
                stateful=forwarder.stateful,
            )
        return self._eligible[key]


class Moves:
    """The shares that move from one table to another, each worked out once."""

    def __init__(self) -> None:
        self._shares: dict[tuple[str, str], float] = {}

    def share(self, old: Built | None, new: Built | None) -> float | None:
        """Return the share (0 to 1); None when there is no table on one side."""
        if not (old and old.slots and new and new.slots):
            return None
        key = (old.digest, new.digest)
        if key not in self._shares:
            self._shares[key] = moved(old.slots, new.slots)
        return self._shares[key]


def service_changes(old: Side, new: Side, before: Tables, after: Tables) -> list[ServiceChange]:
    """Return what becomes of every service, in the order of the new configuration."""
    former = {service_key(service): service for service in old.services}
    latter = {service_key(service): service for service in new.services}
    moves = Moves()
    return [
        _change(former.get(key), latter.get(key), before, after, moves)
        for key in {**latter, **former}
    ]


def _change(
    old: Service | None, new: Service | None, before: Tables, after: Tables, moves: Moves
) -> ServiceChange:
    service = new or old
    assert service is not None
    key = service_key(service)
    forwarder = (after if new else before).forwarders[service.forwarder]
    now, then = before.tables.get(key), after.tables.get(key)
    details = _details(old, new, stateful=_stateful(old, before) or _stateful(new, after))
    change: Change = "removed" if new is None else "added"
    if old is not None and new is not None:
        same = now is not None and then is not None and now.digest == then.digest
        change = "same" if same and not details else "changed"
    return ServiceChange(
        name=service.name,
        change=change,
        forwarder=service.forwarder,
        moved=moves.share(now, then),
        stateful=forwarder.stateful,
        nodes_before=None if now is None else now.nodes,
        nodes_after=None if then is None else then.nodes,
        table_digest="" if then is None else then.digest,
        details=tuple(details),
    )


def _stateful(service: Service | None, tables: Tables) -> bool:
    return service is not None and tables.forwarders[service.forwarder].stateful


def _details(old: Service | None, new: Service | None, *, stateful: bool) -> list[str]:
    if new is None:
        return ["its open connections are cut"]
    if old is None:
        return []
    details = [
        f"{key}: {_text(getattr(old, key))} to {_text(getattr(new, key))}"
        for key in _KEYS
        if getattr(old, key) != getattr(new, key)
    ]
    if old.forwarder != new.forwarder and stateful:
        details.append("its open connections are cut, since one of the forwarders tracks them")
    return details


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "all"
    return str(value)


def strange_tables(old: Side, before: Tables) -> list[str]:
    """Return a note for each service whose real table is another than the one built here."""
    return [
        f"{service.name}: the balancer's lookup table is another than the one computed here, so"
        " its share is an estimate: a node just changes, a forwarder refuses one, or the"
        " balancer has other plugins"
        for service in old.services
        if old.digests.get(service_key(service))
        not in (
            None,
            before.tables[service_key(service)].digest,
        )
    ]
