# SPDX-License-Identifier: Apache-2.0
"""One typed method per hook that is called while a balancer works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from galelb.errors import PluginError
from galelb.model import HealthReport, Metric, NodeRecord, Peer, Service, XdpMode
from galelb.plugins.caller import HookCaller

__all__ = ["HookMethods"]


class HookMethods:
    """The decide, notify and collect hooks as the core calls them; see galelb.hooks."""

    def __init__(self, call: HookCaller) -> None:
        self._call = call

    # decide

    def build_table(
        self, service: Service, nodes: Sequence[tuple[str, float]], size: int, seed: int
    ) -> Sequence[int]:
        """Return a lookup table: `size` positions in `nodes`. Call it in a worker thread.

        Raises PluginError when nobody, not even the scheduler, gave a valid one.
        """
        table: Sequence[int] | None = self._call.decide(
            "galelb_build_table",
            lambda answer: _is_table(answer, size, len(nodes)),
            service=service,
            nodes=nodes,
            size=size,
            seed=seed,
        )
        if table is None:
            raise PluginError(
                service.scheduler, f"no lookup table for service {service.name}; see the log"
            )
        return table

    def judge_node(self, record: NodeRecord, report: HealthReport) -> bool:
        """Return whether this report counts as serving."""
        return bool(self._call.decide("galelb_judge_node", _is_bool, record=record, report=report))

    def admit_node(self, report: HealthReport) -> bool:
        """Return whether an unknown node may join."""
        return bool(self._call.decide("galelb_admit_node", _is_bool, report=report))

    def merge_record(self, ours: NodeRecord, theirs: NodeRecord) -> NodeRecord | None:
        """Return the record that counts as a peer's word, or None for `theirs`."""
        return self._call.decide(
            "galelb_merge_record",
            lambda answer: isinstance(answer, NodeRecord),
            ours=ours,
            theirs=theirs,
        )

    # notify: never raise

    def health_reported(self, report: HealthReport) -> None:
        """Tell plugins that a report was applied."""
        self._call.notify("galelb_health_reported", report=report)

    def node_changed(self, old: NodeRecord | None, new: NodeRecord) -> None:
        """Tell plugins that a node's record changed."""
        self._call.notify("galelb_node_changed", old=old, new=new)

    def table_changed(self, service: Service, digest: str, moved: float) -> None:
        """Tell plugins that a lookup table was replaced; `moved` is a share of its slots."""
        self._call.notify("galelb_table_changed", service=service, digest=digest, moved=moved)

    def peer_changed(self, old: Peer | None, new: Peer) -> None:
        """Tell plugins that a peer joined, left, died or returned."""
        self._call.notify("galelb_peer_changed", old=old, new=new)

    def attached(self, interface: str, mode: XdpMode) -> None:
        """Tell plugins that a program was attached."""
        self._call.notify("galelb_attached", interface=interface, mode=mode)

    def detached(self, interface: str) -> None:
        """Tell plugins that a program was detached."""
        self._call.notify("galelb_detached", interface=interface)

    def started(self, plugins: Mapping[str, str] | None = None) -> None:
        """Tell plugins that the balancer forwards; `plugins` maps names to versions."""
        self._call.notify("galelb_started", plugins=plugins or {})

    def stopping(self) -> None:
        """Tell plugins that the balancer is about to stop."""
        self._call.notify("galelb_stopping")

    # collect

    def metrics(self) -> list[Metric]:
        """Return the metrics of all plugins."""
        return self._call.collect("galelb_metrics", lambda item: isinstance(item, Metric))


def _is_bool(answer: Any) -> bool:
    return isinstance(answer, bool)


def _is_table(answer: Any, size: int, nodes: int) -> bool:
    """Whether an answer has the right length and names only nodes that exist."""
    if not isinstance(answer, Sequence) or len(answer) != size:
        return False
    return all(isinstance(slot, int) and 0 <= slot < nodes for slot in set(answer))
