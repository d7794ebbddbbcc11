# SPDX-License-Identifier: Apache-2.0
"""The balancer's nodes: reports come in, decisions are asked for, everybody concerned is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import attrs
import structlog
import trio

from galelb.control.settings import health_settings
from galelb.errors import GaleError
from galelb.health.weights import FULL
from galelb.metrics import Histogram
from galelb.model import HealthReport, HealthStatus, IPAddress, Node, NodeRecord, NodeState

if TYPE_CHECKING:
    from galelb.config import BalancerConfig
    from galelb.health import NodeHealth
    from galelb.plugins import Plugins

__all__ = ["NodeDesk"]

log = structlog.get_logger("galelb.nodes")

_STALL_S = 0.5
"""Who wakes up this much later than asked for did not run: stopped, or its machine was."""


class NodeDesk:
    """Feeds the health registry and spreads its changes; all methods belong to the trio thread.

    `on_change` is called after any change of records, `on_join` for each new node,
    `on_leave` for each that is forgotten.
    """

    def __init__(
        self,
        health: NodeHealth,
        plugins: Plugins,
        *,
        on_change: Callable[[], None],
        on_join: Callable[[Node], None],
        on_leave: Callable[[Node], None],
    ) -> None:
        self.health = health
        self._plugins = plugins
        self._on_change = on_change
        self._on_join = on_join
        self._on_leave = on_leave
        self.report_times: dict[str, Histogram] = {}
        """By source: how long reports took to be applied."""
        self._moved = trio.Event()
        self._due = float("inf")
        """When `run` wakes by itself."""

    def add_static(self, node: Node) -> None:
        """Add a configured node."""
        self.health.add_static(node, trio.current_time())
        self.settle()

    def use_config(self, old: BalancerConfig, new: BalancerConfig) -> None:
        """Add static nodes that are new, forget those that are gone, take over settings."""
        now = trio.current_time()
        self.health.reconfigure(health_settings(new), now)
        kept = {section.ip for section in new.nodes}
        for section in old.nodes:
            if section.ip not in kept:
                self.health.remove(section.ip, now)
        for section in new.nodes:
            node = section.node()
            self.add_static(node)
            self._on_join(node)  # its link-layer address may be another one
        self.settle()

    def report(self, report: HealthReport) -> NodeRecord:
        """Apply a health source's report; return the node as the balancer now sees it.

        Raises GaleError when the node may not join.
        """
        self._excuse_stall()
        began = time.perf_counter()
        known = self.health.get(report.address)
        if known is None and not self._plugins.admit_node(report):
            raise GaleError(f"node {report.address} is not admitted")
        if known is not None and not self._plugins.judge_node(known, report):
            report = self._judged_down(report)
        record = self.health.report(report, trio.current_time())
        self._plugins.health_reported(report)
        self.settle()
        times = self.report_times.setdefault(report.source, Histogram())
        times.observe(time.perf_counter() - began)
        return record

    def _judged_down(self, report: HealthReport) -> HealthReport:
        if report.status is not HealthStatus.SERVING:
            return report
        return attrs.evolve(
            report, status=HealthStatus.NOT_SERVING, message=report.message or "judged not serving"
        )

    def lost(self, source: str, address: IPAddress, reason: str) -> None:
        """Note that a source lost a node."""
        self._excuse_stall()
        self.health.lost(source, address, reason, trio.current_time())
        self.settle()

    def unused(self, source: str) -> None:
        """Note that a source is no longer in use."""
        self.health.unused(source, trio.current_time())
        self.settle()

    def use_checkers(self, checkers: Collection[str]) -> None:
        """Heed these sources' checks, and no others, from now on."""
        self.health.use_checkers(checkers, trio.current_time())
        self.settle()

    def neighbour(self, address: IPAddress, mac: str | None) -> None:
        """Note the link-layer address of a node's next hop, None = unresolved."""
        self.health.set_neighbour(address, mac, trio.current_time())
        self.settle()

    def settle(self) -> None:
        """Tell everybody about what changed since the last call."""
        due = self.health.next_deadline()
        if due is not None and due < self._due:
            self._moved.set()
        changes = self.health.take_changes()
        for old, new in changes:
            if old is None:
                self._on_join(new.node)
            elif self.health.get(new.node.address) is None:
                self._on_leave(new.node)
            _log(old, new)
            self._plugins.node_changed(old, new)
        if changes:
            self._on_change()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let time-outs and expiries happen when they are due."""
        task_status.started()
        while True:
            self._moved = trio.Event()
            deadline = self.health.next_deadline()
            self._due = float("inf") if deadline is None else deadline
            with trio.move_on_at(self._due):
                await self._moved.wait()  # until something is due earlier than was known
                continue
            self._excuse_stall()
            self.health.tick(trio.current_time())
            self.settle()

    def _excuse_stall(self) -> None:
        """Blame no node for silence while this process did not run, and could hear none.

        Whichever task wakes first after that asks: a report that was waiting, or `run`.
        """
        now = trio.current_time()
        if now > self._due + _STALL_S:
            log.warning("balancer_stalled", seconds=round(now - self._due, 1))
            self.health.excuse(now)
            self._due = float("inf")
            self._moved.set()


def _log(old: NodeRecord | None, new: NodeRecord) -> None:
    """Log what an operator wants to know: states, drains, weights, shares, neighbours."""
    facts = {"node": str(new.node.address), "state": new.state.value, "reason": new.reason}
    if old is None:
        log.info("node_joined", **facts)
    elif old.state is not new.state:
        fell = old.state is NodeState.ROUTABLE
        (log.warning if fell else log.info)("node_state", old=old.state.value, **facts)
    elif old.draining is not new.draining:
        log.info("node_draining", node=facts["node"], draining=new.draining)
    elif old.weight != new.weight:
        log.info("node_weight", node=facts["node"], old=old.weight, weight=new.weight)
    elif old.load_share != new.load_share:
        log.info("node_load_share", node=facts["node"], percent=new.load_share)
    elif old.start_share < FULL == new.start_share:
        log.info("node_slow_start_over", node=facts["node"])
    elif old.neighbour != new.neighbour:
        log.info("node_neighbour", node=facts["node"], mac=new.neighbour)
