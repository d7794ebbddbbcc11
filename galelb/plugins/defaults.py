# SPDX-License-Identifier: Apache-2.0
"""The core's own answers to the decide hooks, asked after every plugin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from galelb.hooks import hookimpl
from galelb.model import HealthReport, HealthStatus, NodeRecord, Service
from galelb.sources import Scheduler
from galelb.tables.maglev import Maglev

__all__ = ["CoreDefaults"]


class CoreDefaults:
    """Registered like any plugin, under the name `core`; its answers are `trylast`."""

    def __init__(self) -> None:
        self.schedulers: Mapping[str, Scheduler] = {Maglev.name: Maglev(Maglev.Options())}
        """The schedulers in use by name; `Plugins.configure` sets them."""

    @hookimpl
    def galelb_register_schedulers(self) -> Iterable[type[Scheduler]]:
        """Return the default scheduler."""
        return [Maglev]

    @hookimpl(trylast=True)
    def galelb_build_table(
        self, service: Service, nodes: Sequence[tuple[str, float]], size: int, seed: int
    ) -> Sequence[int]:
        """Ask the service's scheduler."""
        return self.schedulers[service.scheduler].build(nodes, size, seed)

    @hookimpl(trylast=True)
    def galelb_judge_node(self, record: NodeRecord, report: HealthReport) -> bool:
        """Believe what the report says."""
        del record
        return report.status is HealthStatus.SERVING

    @hookimpl(trylast=True)
    def galelb_admit_node(self, report: HealthReport) -> bool:
        """Admit every node that reports."""
        del report
        return True
