# SPDX-License-Identifier: Apache-2.0
"""What another configuration, or an operator's word, makes of the nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from galelb.api.view import UnknownNodeError
from galelb.config import BalancerConfig, NodeSection
from galelb.health.weights import FULL
from galelb.model import IPAddress, NodeRecord, NodeState
from galelb.plan.values import Change, KnownNode, NodeChange

__all__ = ["after_reload", "after_words", "configured", "counting_weight", "node_changes"]

_RESOLVED = "resolved, it is assumed"


def configured(config: BalancerConfig) -> tuple[KnownNode, ...]:
    """Return the static nodes of a configuration, as if all of them were healthy."""
    return tuple(_new(section) for section in config.nodes)


def after_reload(
    nodes: Sequence[KnownNode], new: BalancerConfig, *, reporting: Iterable[str] | None = None
) -> tuple[KnownNode, ...]:
    """Return the nodes once `new` is in force, healthy as far as nobody objects.

    `reporting` are the health sources by which nodes may report then; those of `new` if None.
    """
    sources = frozenset(new.node_health.sources if reporting is None else reporting)
    sections = {section.ip: section for section in new.nodes}
    found: list[KnownNode] = []
    for known in nodes:
        section = sections.pop(known.record.node.address, None)
        if section is not None:
            found.append(_configured(known, section))
        elif not known.record.node.static:
            found.append(_reporting(known, sources))
    return (*found, *map(_new, sections.values()))


def _new(section: NodeSection) -> KnownNode:
    record = NodeRecord(
        node=section.node(),
        state=NodeState.ROUTABLE,
        reason="configured",
        neighbour=section.mac or _RESOLVED,
    )
    return KnownNode(record=record)


def _configured(known: KnownNode, section: NodeSection) -> KnownNode:
    """Return a known node as a static one; what it announces wins over the configuration."""
    node = section.node()
    if known.weight_from == "node":
        node = attrs.evolve(node, weight=known.record.node.weight)
    record = attrs.evolve(known.record, node=node)
    if not known.objected:
        record = attrs.evolve(record, state=NodeState.ROUTABLE, reason="configured")
    weight_from = "config" if known.weight_from == "default" else known.weight_from
    return attrs.evolve(known, record=record, weight_from=weight_from)


def _reporting(known: KnownNode, sources: frozenset[str]) -> KnownNode:
    if not known.reporters or known.reporters & sources:
        return known
    gone = ", ".join(sorted(known.reporters))
    record = attrs.evolve(
        known.record, state=NodeState.DOWN, reason=f"no report: {gone} is no longer in use"
    )
    return attrs.evolve(known, record=record)


def after_words(
    nodes: Sequence[KnownNode],
    *,
    weights: Mapping[str, int] = {},
    drain: Iterable[str] = (),
    undrain: Iterable[str] = (),
) -> tuple[KnownNode, ...]:
    """Return the nodes after an operator's words; nodes go by address or name.

    Raises UnknownNodeError.
    """
    found = {known.record.node.address: known for known in nodes}
    for wanted, weight in weights.items():
        known = _find(found, wanted)
        # The operator's weight holds at once and is not questioned by load.
        record = attrs.evolve(
            known.record, operator_weight=weight, start_share=FULL, load_share=FULL
        )
        found[record.node.address] = attrs.evolve(known, record=record, weight_from="operator")
    for on, names in ((True, drain), (False, undrain)):
        for wanted in names:
            known = _find(found, wanted)
            record = attrs.evolve(known.record, draining=on)
            found[record.node.address] = attrs.evolve(known, record=record)
    return tuple(found.values())


def _find(nodes: Mapping[IPAddress, KnownNode], wanted: str) -> KnownNode:
    matches = [
        known
        for known in nodes.values()
        if wanted in (str(known.record.node.address), known.record.node.name)
    ]
    if len(matches) != 1:
        known_names = [k.record.node.name for k in nodes.values() if k.record.node.name]
        raise UnknownNodeError(wanted, [*known_names, *map(str, nodes)])
    return matches[0]


def node_changes(before: Sequence[KnownNode], after: Sequence[KnownNode]) -> list[NodeChange]:
    """Return what becomes of every node, in the order of before."""
    old = {known.record.node.address: known for known in before}
    new = {known.record.node.address: known for known in after}
    return [_change(old.get(address), new.get(address)) for address in {**old, **new}]


def _change(old: KnownNode | None, new: KnownNode | None) -> NodeChange:
    known = new or old
    assert known is not None
    details = _details(old, new) if old and new else _coming_or_going(old)
    return NodeChange(
        address=str(known.record.node.address),
        name=known.record.node.name,
        change="removed" if new is None else "added" if old is None else _changed(details),
        details=tuple(details),
        weight_before=None if old is None else counting_weight(old),
        weight_after=None if new is None else counting_weight(new),
    )


def _changed(details: Sequence[str]) -> Change:
    return "changed" if details else "same"


def counting_weight(known: KnownNode) -> float:
    """Return what of a node's weight counts; 0 when it gets no new flows."""
    if known.refused or not known.record.takes_new_flows:
        return 0
    return known.record.effective_weight


def _coming_or_going(old: KnownNode | None) -> list[str]:
    if old is None or not old.reporters:
        return []
    return ["it reports, too, so it joins again after its probation"]


def _details(old: KnownNode, new: KnownNode) -> list[str]:
    before, after = old.record, new.record
    details: list[str] = []
    if before.node.name != after.node.name:
        details.append(f"name: {before.node.name or '-'} to {after.node.name or '-'}")
    if before.weight != after.weight:
        details.append(f"weight: {before.weight} to {after.weight} ({_by(new)})")
    if before.node.mac != after.node.mac:
        macs = [record.node.mac or "discovered" for record in (before, after)]
        details.append(f"mac: {macs[0]} to {macs[1]}")
    if before.draining != after.draining:
        details.append("drains" if after.draining else "drains no longer")
    if before.state is not after.state:
        details.append(f"{before.state} to {after.state}: {after.reason}")
    elif before.node.static != after.node.static:
        details.append("becomes static" if after.node.static else "has to report from now on")
    return details


def _by(known: KnownNode) -> str:
    whose = {"operator": "the operator", "node": "the node itself"}
    return f"by {whose.get(known.weight_from, 'the configuration')}"
