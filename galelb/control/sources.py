# SPDX-License-Identifier: Apache-2.0
"""Runs the sources and services of plugins, also when a reload names other health sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

import attrs
import structlog
import trio

from galelb.control.serving import serving
from galelb.control.ways import reach, vip_way
from galelb.errors import GaleError
from galelb.plugins.blame import blamed, run_blamed
from galelb.sources import BalancerContext

if TYPE_CHECKING:
    from galelb.api.view import InterfaceStatus
    from galelb.component import Component
    from galelb.config import BalancerConfig
    from galelb.control.controller import Controller
    from galelb.control.nodes import NodeDesk
    from galelb.grpc.signal import Signal
    from galelb.model import Interface, IPAddress, NextHop
    from galelb.plugins import Plugins
    from galelb.sources import HealthSource

__all__ = ["HealthSources", "checkers", "source_context", "start_services"]

log = structlog.get_logger("galelb.sources")


def checkers(config: BalancerConfig, plugins: Plugins) -> tuple[str, ...]:
    """Return the health sources in use that look at nodes themselves."""
    names = config.node_health.sources
    return tuple(name for name in names if plugins.health_source(name).checks)


def source_context(
    *,
    config: BalancerConfig,
    private: Interface,
    desk: NodeDesk,
    controller: Controller,
    interfaces: Callable[[], Iterable[InterfaceStatus]],
    hop: Callable[[IPAddress], NextHop | None],
    changed: Signal,
) -> BalancerContext:
    """Return what a running balancer lends to its sources; `hop` gives a node's next hop."""
    return BalancerContext(
        config=config,
        private_addresses=private.addresses,
        report=desk.report,
        node_gone=desk.lost,
        nodes=desk.health.records,
        node_setups=lambda: controller.served.node_setups(),
        services=lambda: tuple(controller.served.services.values()),
        serving=lambda: serving(controller, interfaces()),
        reach=lambda service, node: reach(controller.served, service, node),
        vip_way=lambda service, node: vip_way(controller.served, service, node, hop),
        changed=changed,
    )


async def start_services(nursery: trio.Nursery, plugins: Plugins, context: BalancerContext) -> None:
    """Start the background services that the configuration has options for."""
    for name, service in plugins.services().items():
        if name in context.config.plugins:
            with blamed(name, "service"):
                component = service(context.config.plugins[name], context)
            await nursery.start(run_blamed, name, component)


@attrs.define
class _Running:
    source: HealthSource
    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    ended: trio.Event = attrs.Factory(trio.Event)


class HealthSources:
    """A component; `use` what a configuration names once it runs."""

    def __init__(self, plugins: Plugins, desk: NodeDesk, context: BalancerContext) -> None:
        self._plugins = plugins
        self._desk = desk
        self._context = context
        self._running: dict[str, _Running] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the sources until cancelled; one that fails ends the balancer."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def notes(self) -> list[str]:
        """Return what the sources have to say to the operator."""
        return [note for running in self._running.values() for note in running.source.notes()]

    async def use(self, config: BalancerConfig) -> None:
        """Run exactly the sources of this configuration, each with its options.

        Returns once the new ones are ready. Raises GaleError when one of them cannot start; the
        others run then.
        """
        names = config.node_health.sources
        for name in [name for name in self._running if name not in names]:
            await self._end(name)
        self._desk.use_checkers(checkers(config, self._plugins))
        failures: list[GaleError] = []
        for name in names:
            try:
                await self._begin(name, config)
            except GaleError as error:
                failures.append(error)
        if failures:
            self._desk.use_checkers(self._checking())
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise GaleError("; ".join(map(str, failures)))

    async def change(self, config: BalancerConfig) -> None:
        """Do as `use` does while the balancer runs: a source that cannot start is left out."""
        try:
            await self.use(config)
        except GaleError as error:
            log.error("health_source_not_started", reason=str(error))  # noqa: TRY400 - for users

    async def _begin(self, name: str, config: BalancerConfig) -> None:
        running = self._running.get(name)
        if running is not None:
            with blamed(name, "reload"):
                running.source.reload(config.plugins[name], config)
            return
        with blamed(name, "health source"):
            source = self._plugins.health_source(name)(config.plugins[name], self._context)
        assert self._nursery is not None
        await self._nursery.start(
            self._run, name, _Running(source, trio.CancelScope(), trio.Event())
        )

    async def _run(
        self, name: str, running: _Running, *, task_status: trio.TaskStatus[None]
    ) -> None:
        self._running[name] = running
        try:
            with running.scope:
                component = cast("Component", running.source)  # the core always gives a status
                await run_blamed(name, component, task_status=task_status)
        finally:
            self._running.pop(name, None)
            running.ended.set()

    async def _end(self, name: str) -> None:
        running = self._running[name]
        running.scope.cancel()
        await running.ended.wait()
        self._desk.unused(name)
        log.info("health_source_ended", source=name)

    def _checking(self) -> list[str]:
        return [name for name, running in self._running.items() if running.source.checks]
