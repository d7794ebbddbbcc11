# SPDX-License-Identifier: Apache-2.0
"""What the balancer's parts tell of their own work: how long it took, how often it failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import attrs

from galelb.control import metric_families as family
from galelb.model import Metric

if TYPE_CHECKING:
    from galelb.control.chronicle import Chronicle
    from galelb.control.controller import Controller
    from galelb.control.lag import LoopLag
    from galelb.metrics import Histogram

__all__ = ["Work"]


@attrs.frozen(kw_only=True)
class Work:
    """Those parts that only count."""

    chronicle: Chronicle
    lag: LoopLag
    report_times: Mapping[str, Histogram]
    """By health source."""

    def metrics(self, controller: Controller) -> Iterator[Metric]:
        """Return what they counted."""
        yield family.CONFIG_SUCCESS.sample(self.chronicle.reload_succeeded)
        yield family.CONFIG_TIME.sample(self.chronicle.configured_at)
        yield family.LOOP_LAG.sample(self.lag.seen)
        yield family.PLAN_DURATION.sample(controller.plan_times)
        yield family.PLAN_FAILURES.sample(controller.plan_failures)
        for source, times in self.report_times.items():
            yield family.REPORT_DURATION.sample(times, source)
        for (forwarder, result), count in self.chronicle.carried.items():
            yield family.FLOWS_CARRIED.sample(count, forwarder, result)
        for kind, count in self.chronicle.events.counts.items():
            yield family.EVENTS.sample(count, kind)
        yield family.EVENT_STREAMS.sample(self.chronicle.events.subscribers)
