# SPDX-License-Identifier: Apache-2.0
"""The health source that checks nodes: one task per target, one word per node."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import structlog
import trio
from galelb_plugins.health_probe.exchange import Exchange
from galelb_plugins.health_probe.findings import Streak, Watched, finding
from galelb_plugins.health_probe.kinds import CheckFailedError, ask
from galelb_plugins.health_probe.options import HealthProbeOptions
from galelb_plugins.health_probe.plain import connect
from galelb_plugins.health_probe.targets import Target, targets

from galelb.errors import GaleError
from galelb.model import HealthReport, HealthStatus, IPAddress, Service
from galelb.sources import BalancerContext, HealthSource, Reach

if TYPE_CHECKING:
    from galelb.config import BalancerConfig

__all__ = ["HealthProbe"]

log = structlog.get_logger(__name__)

SOURCE = "health_probe"
_REPEAT_S = 5.0
"""A finding is reported again after this long, in case the node was forgotten and came back."""
_SILENT = "no answer"


class HealthProbe(HealthSource):
    """Checks nodes by tcp, http or grpc.health.v1, at the VIP where they get packets there."""

    name = SOURCE
    Options = HealthProbeOptions
    checks = True

    options: HealthProbeOptions

    def __init__(self, options: Any, context: BalancerContext) -> None:
        super().__init__(options, context)
        self._watched: dict[Target, Watched] = {}
        self._of_node: dict[IPAddress, list[Target]] = {}
        self._said: dict[IPAddress, tuple[HealthStatus | None, str, float]] = {}
        self._basis: object = None
        """What the targets were made from."""
        self._unseen: dict[str, IPAddress] = {}
        """VIPs of services by name where nobody would hear nodes answer."""
        self._exchanges: dict[IPAddress, Exchange] = {}
        self._most: int = options.concurrency
        self._slots = trio.CapacityLimiter(self._most)
        self._nursery: trio.Nursery | None = None

    def reload(self, options: Any, config: BalancerConfig) -> None:
        """Check by other probes; findings of those that stay the same are kept."""
        super().reload(options, config)
        self._slots.total_tokens = min(options.concurrency, self._most)
        self.context.changed.notify()

    def notes(self) -> list[str]:
        """Return which services are checked less well than one may think."""
        known = {service.name for service in self.context.services()}
        strange = {name for probe in self.options.probes for name in probe.services} - known
        return [
            *(
                f"health_probe: a probe is for {name}, which is no service"
                for name in sorted(strange)
            ),
            *self._unseen_notes(),
        ]

    def _unseen_notes(self) -> list[str]:
        return [
            f"health_probe: service {name}: nodes are checked at their own addresses and not at"
            f" {vip}, because every IPv{vip.version} address that they could answer to is a VIP"
            " itself: give the private interface one more"
            for name, vip in self._unseen.items()
        ]

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Check nodes until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            while True:
                self._adjust(self._nursery)
                await self.context.changed.wait()

    # what is checked

    def _adjust(self, nursery: trio.Nursery) -> None:
        """Check what the nodes, services and options of this moment ask for."""
        nodes = tuple(record.node.address for record in self.context.nodes())
        services = tuple(self.context.services())
        basis = (nodes, services, self.options)
        if basis == self._basis:
            return
        self._basis = basis
        wanted = targets(self.options.in_use, services, nodes, self.context.reach)
        self._note_unseen(services, nodes)
        if len(wanted) > self.options.max_checks:
            log.error(
                "health_probe_too_many_checks", wanted=len(wanted), most=self.options.max_checks
            )
            wanted = dict(list(wanted.items())[: self.options.max_checks])
        for target in self._watched.keys() - wanted.keys():
            self._watched.pop(target).scope.cancel()
        for target, names in wanted.items():
            if target in self._watched:
                self._watched[target].services = names
            else:
                self._watched[target] = Watched(names, Streak(target.probe.rise, target.probe.fall))
                nursery.start_soon(self._watch, target, self._watched[target])
        self._of_node = {node: [] for node in nodes}
        for target in wanted:
            self._of_node[target.node].append(target)
        for node in self._said.keys() - self._of_node.keys():
            del self._said[node]
        for node in nodes:
            self._tell(node)

    def _note_unseen(self, services: Iterable[Service], nodes: Sequence[IPAddress]) -> None:
        """Log services that are checked less well than they could be, each once."""
        before, reach = self._unseen, self.context.reach
        self._unseen = {
            service.name: service.vip
            for service in services
            if any(reach(service, node) is Reach.UNSEEN for node in nodes)
        }
        if self._unseen.keys() - before.keys():
            for note in self._unseen_notes():
                log.warning("health_probe_not_on_vip", text=note)

    async def _watch(self, target: Target, watched: Watched) -> None:
        """Check a target every `interval`, beginning anywhere in one."""
        probe, streak = target.probe, watched.streak
        with watched.scope:
            await trio.sleep(random.random() * probe.interval)  # noqa: S311 - no secret
            while True:
                began = trio.current_time()
                async with self._slots:
                    reason = await self._check(target)
                    if streak.add(reason):
                        watched.hint = ""
                        self._tell(target.node)
                        if reason.startswith(_SILENT) and target.service is not None:
                            watched.hint = await self._hint(target)
                self._tell(target.node)
                await trio.sleep_until(max(began + probe.interval, trio.current_time()))

    # one check

    async def _check(self, target: Target) -> str:
        """Return why the target is not well, "" = it is."""
        patience = target.probe.patience
        try:
            with trio.fail_after(patience):
                async with self._connection(target) as stream:
                    await ask(target.probe, stream, target.authority)
        except trio.TooSlowError:
            return f"{_SILENT} within {patience:g} s"
        except OSError as error:
            return (error.strerror or str(error)).lower()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return "the connection broke"
        except (CheckFailedError, GaleError) as error:
            return str(error)
        return ""

    @contextlib.asynccontextmanager
    async def _connection(self, target: Target) -> AsyncIterator[trio.abc.Stream]:
        if target.service is None:
            async with connect(target.node, target.port) as stream:
                yield stream
            return
        way = self.context.vip_way(target.service, target.node)
        exchange = self._exchange(way.source)
        async with exchange.connect(way, target.service.vip, target.port) as vip_stream:
            yield vip_stream

    def _exchange(self, source: IPAddress) -> Exchange:
        """Return the exchange of an address of ours; made when first needed."""
        if source not in self._exchanges:
            assert self._nursery is not None
            exchange = self._exchanges[source] = Exchange(source, self._most)
            self._nursery.start_soon(exchange.run)
        return self._exchanges[source]

    async def _hint(self, target: Target) -> str:
        """Return what a node that answers at its own address only probably lacks."""
        try:
            with trio.fail_after(target.probe.patience):
                async with connect(target.node, target.port):
                    pass
        except (OSError, trio.TooSlowError):
            return ""
        return f", but {target.node} answers at port {target.port}: is the VIP on the node's lo?"

    # what is said

    def _tell(self, node: IPAddress) -> None:
        """Report what was found of a node, if that is news."""
        found = finding([(one, self._watched[one]) for one in self._of_node.get(node, ())])
        if found is None:
            return
        status, message = found
        now = trio.current_time()
        *said, at = self._said.get(node, (None, None, float("-inf")))
        if said == [status, message] and now < at + _REPEAT_S:
            return
        self._said[node] = (status, message, now)
        if status is None:
            self.context.node_gone(SOURCE, node, message)
            return
        report = HealthReport(source=SOURCE, address=node, status=status, message=message)
        with contextlib.suppress(GaleError):  # the node was forgotten just now
            self.context.report(report)
