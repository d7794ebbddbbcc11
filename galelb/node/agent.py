# SPDX-License-Identifier: Apache-2.0
"""The agent of a node: checks the node, tells every balancer, takes its leave when stopped."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import structlog
import trio

from galelb.config.node import NodeConfig
from galelb.grpc.tls import FileProblemError
from galelb.node.checks import run_check
from galelb.node.client import BalancerClient, Connect, connect_tcp
from galelb.node.health import LocalHealth
from galelb.node.host import NodeHost
from galelb.node.identity import Identity, check_files
from galelb.node.stop_file import StopFile
from galelb.notify import Notifier, Ready

__all__ = ["NodeAgent", "run_agent"]

log = structlog.get_logger(__name__)

_STOP_WAIT_S = 5.0
_START = "galelb node start"
_LINGER_S = 0.5
"""Between a balancer's answer and what its programs read: until then packets to a VIP come."""


class NodeAgent:
    """Everything the agent does except listening to signals."""

    def __init__(self, config: NodeConfig, *, connect: Connect = connect_tcp) -> None:
        self.config = config
        self.started_at = time.time()
        self.began_at: float | None = None
        """When `run` began, of trio's clock."""
        self._stop = trio.Event()
        self.health = LocalHealth(config.checks)
        self._stop_file = StopFile(Path(config.node.stop_file))
        self.stopped_at = self._stop_file.since()
        """When an operator stopped the node (seconds since the epoch); None = it is started."""
        self.unkept = ""
        """Why a restart would forget what the operator has decided."""
        if self.stopped_at is not None:
            self.health.stop()
        balancers = config.load_balancer.addresses
        identity = Identity(config.load_balancer)
        self.host = NodeHost(
            self.health,
            configure=config.node.configure_host,
            record=Path(config.node.state_file),
            balancers=[address.name for address in balancers],
            not_vips=[address.host for address in balancers],
            interfaces=config.node.interfaces,
        )
        self.clients = [
            BalancerClient(
                address,
                config.node,
                self.health,
                connect=connect,
                prepare=self.host.prepare,
                identity=identity,
            )
            for address in balancers
        ]

    def stop(self) -> None:
        """Begin to leave: `run` tells the balancers and returns when they know."""
        self._stop.set()

    async def operator_stop(self) -> None:
        """Take no new connections until `operator_start`, also after a restart.

        Returns when all balancers that are heard know it, or after some seconds.
        """
        await self._keep(self._stop_file.write, "stop")
        self.stopped_at = self._stop_file.since() or self.stopped_at or time.time()
        self.health.stop()
        log.warning("stopped_by_operator", mend=_START)
        with trio.move_on_after(_STOP_WAIT_S):
            for client in self.clients:
                await _wait_drained(client)

    async def operator_start(self) -> None:
        """Serve again, as far as the checks allow it."""
        await self._keep(self._stop_file.remove, "start")
        self.stopped_at = None
        if self.health.stopped:
            log.info("started_by_operator")
            self.health.start()

    async def _keep(self, change: Callable[[], None], what: str) -> None:
        try:
            await trio.to_thread.run_sync(change)
        except OSError as error:
            why = f"{error.strerror}: {self._stop_file.path}"
            self.unkept = f"a restart of the agent will forget this {what}: {why}"
            log.error("decision_not_kept", decision=what, reason=why)  # noqa: TRY400 - for users
        else:
            self.unkept = ""

    def reread(self) -> None:
        """Say whether the files of certificates or a token can be used; new connections do."""
        try:
            check_files(self.config.load_balancer)
        except FileProblemError as error:
            log.error("secrets_unusable", reason=str(error))  # noqa: TRY400 - for users
        else:
            log.info("secrets_reread")

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Check and report until `stop`; returns after at most `drain_timeout` more seconds."""
        self.began_at = trio.current_time()
        if self.health.stopped:
            log.warning("stopped_by_operator", mend=_START)
        try:
            await self._run(task_status)
        finally:
            with trio.CancelScope(shield=True):
                await self.host.leave()

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.host.run)
            for check in self.config.checks:
                nursery.start_soon(run_check, check, self.health)
            for client in self.clients:
                nursery.start_soon(client.run)
            task_status.started()
            await self._stop.wait()
            await self._leave()
            nursery.cancel_scope.cancel()

    async def _leave(self) -> None:
        log.info("node_leaves")
        self.health.leave()
        with trio.move_on_after(self.config.node.drain_timeout) as scope:
            for client in self.clients:
                await _wait_drained(client)
        if scope.cancelled_caught:
            deaf = [c.name for c in self.clients if c.reporting and not c.left]
            log.warning("leaving_undrained", balancers=deaf)
        if self.host.changed:
            await trio.sleep(_LINGER_S)


async def _wait_drained(client: BalancerClient) -> None:
    """Wait until a balancer has answered that the node drains, or does not hear it anyway."""
    while client.reporting and not client.left:
        await client.answered.wait()


async def run_agent(config: NodeConfig, notifier: Notifier | None = None) -> None:
    """Run an agent and its API until SIGTERM or SIGINT; a second one ends it at once.

    The service manager is told by `notifier`. SIGHUP says whether new certificates or a new token
    can be used. Raises ApiError.
    """
    from galelb.node.api import NodeApi  # it knows the agent, which does not know it

    notifier = notifier or Notifier()
    agent = NodeAgent(config)
    api = NodeApi(agent, config)
    api.listen()
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    with trio.open_signal_receiver(*numbers) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, signals, agent, notifier, nursery.cancel_scope)
            nursery.start_soon(api.run)
            nursery.start_soon(notifier.keep_alive)
            await agent.run(task_status=Ready(notifier, lambda: _status(agent)))
            nursery.cancel_scope.cancel()
    log.info("node_left")


def _status(agent: NodeAgent) -> str:
    return f"reports to {', '.join(client.name for client in agent.clients) or 'nobody'}"


async def _stop_on_signal(
    signals: AsyncIterator[int], agent: NodeAgent, notifier: Notifier, scope: trio.CancelScope
) -> None:
    stopping = False
    async for number in signals:
        if number == signal.SIGHUP:
            notifier.reloading()
            agent.reread()
            notifier.ready(_status(agent))
        elif stopping:
            scope.cancel()
            return
        else:
            stopping = True
            notifier.stopping()
            agent.stop()
