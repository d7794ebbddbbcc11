# SPDX-License-Identifier: Apache-2.0
"""What becomes of each service, and which share of its flows moves: by the real schedulers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

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
        self._built: dict[str, tuple[str, ...]] = {}
        self.slots = {service_key(one): self._slots(one) for one in side.services}

    def _slots(self, service: Service) -> tuple[str, ...]:
        """Return the address that each slot names; nothing when there is no node."""
        forwarder = self.forwarders[service.forwarder]
        nodes = eligible_nodes(
            service,
            self._nodes,
            self._refused,
            any_family=forwarder.any_family,
            stateful=forwarder.stateful,
        )
        if not nodes:
            return ()
        spec = self._settings.spec(service.scheduler, nodes[: self._settings.size])
        if spec.digest not in self._built:
            table = self._plugins.build_table(service, spec.nodes, spec.size, spec.seed)
            addresses = spec.addresses
            self._built[spec.digest] = tuple([addresses[position] for position in table])
        return self._built[spec.digest]


def service_changes(old: Side, new: Side, before: Tables, after: Tables) -> list[ServiceChange]:
    """Return what becomes of every service, in the order of the new configuration."""
    former = {service_key(service): service for service in old.services}
    latter = {service_key(service): service for service in new.services}
    return [
        _change(former.get(key), latter.get(key), before, after) for key in {**latter, **former}
    ]


def _change(
    old: Service | None, new: Service | None, before: Tables, after: Tables
) -> ServiceChange:
    service = new or old
    assert service is not None
    key = service_key(service)
    forwarder = (after if new else before).forwarders[service.forwarder]
    slots = before.slots.get(key), after.slots.get(key)
    details = _details(old, new, stateful=_stateful(old, before) or _stateful(new, after))
    share = moved(slots[0], slots[1]) if slots[0] and slots[1] else None
    change: Change = "removed" if new is None else "added"
    if old is not None and new is not None:
        change = "changed" if details or slots[0] != slots[1] else "same"
    return ServiceChange(
        name=service.name,
        change=change,
        forwarder=service.forwarder,
        moved=share,
        stateful=forwarder.stateful,
        nodes_before=None if slots[0] is None else len(set(slots[0])),
        nodes_after=None if slots[1] is None else len(set(slots[1])),
        table_digest=_digest(slots[1] or ()),
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
        if _differs(old.digests.get(service_key(service)), before.slots[service_key(service)])
    ]


def _differs(real: str | None, slots: Sequence[str]) -> bool:
    return real is not None and real != _digest(slots)


def _digest(slots: Sequence[str]) -> str:
    addresses = sorted(set(slots))
    rank = {address: position for position, address in enumerate(addresses)}
    return digest([rank[slot] for slot in slots], addresses) if slots else ""
