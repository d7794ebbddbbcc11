# SPDX-License-Identifier: Apache-2.0
"""Reports to one balancer, for ever: connects, asks for its configuration, reports, reconnects."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

import structlog
import trio

from galelb.config.node import BalancerAddress, NodeSettings
from galelb.grpc.call import Call
from galelb.grpc.client import Channel
from galelb.grpc.framing import CallError
from galelb.grpc.limits import LinkLimits
from galelb.grpc.signal import Signal
from galelb.grpc.tls import FileProblemError
from galelb.model import HealthStatus, IPAddress
from galelb.node.backoff import Backoff
from galelb.node.health import LocalHealth
from galelb.node.identity import Identity
from galelb.node.names import Resolve, connect_tcp, resolve, wait_moved
from galelb.node.reasons import os_reason
from galelb.node.standing import Standing
from galelb.node.wire import GET_CONFIG, REPORT, Advice, Answer, encode_report

__all__ = ["BalancerClient", "Connect", "Prepare", "connect_tcp"]

log = structlog.get_logger(__name__)

Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]
Prepare = Callable[[str, Advice], Awaitable[None]]
"""(balancer, advice): do what the advice asks for; reports wait until it returns."""

_CONNECT_TIMEOUT_S = 3.0
_CONFIG_TIMEOUT_S = 3.0
_LONGEST_WAIT_S = 5.0
"""Between two tries; less with a balancer whose advice is known: after a restart it keeps the
nodes that it adopts only for one time-out, and they must be back by then."""
_STEADY_S = 2.0
"""A connection that lived this long was a good one: the next tries are quick again."""
_GOODBYE_S = 2.0
_LINK = LinkLimits(keepalive_interval=2.0, keepalive_timeout=3.0, handshake_timeout=3.0)


def _peer(stream: trio.abc.Stream) -> IPAddress | None:
    """Return the address at the other end; None if that cannot be known any more."""
    if isinstance(stream, trio.SocketStream):
        with contextlib.suppress(OSError):
            address, _, _ = stream.socket.getpeername()[0].partition("%")
            return ip_address(address)
    return None


async def _prepare_nothing(balancer: str, advice: Advice) -> None:
    del balancer, advice
    await trio.lowlevel.checkpoint()


class BalancerClient:
    """What this node has to do with one balancer."""

    def __init__(
        self,
        address: BalancerAddress,
        settings: NodeSettings,
        health: LocalHealth,
        *,
        connect: Connect = connect_tcp,
        prepare: Prepare = _prepare_nothing,
        identity: Identity | None = None,
        backoff: Backoff | None = None,
        look: Resolve = resolve,
    ) -> None:
        self.name = address.name
        self.answer: Answer | None = None
        """The balancer's last view of this node, None while there is no connection."""
        self.answered = Signal()
        """Notified with every answer and when the connection ends."""
        self.left = False
        """Whether the balancer has answered that it drains this leaving node."""
        self.standing = Standing()
        self._host, self._port = address.host, address.port
        self._settings = settings
        self._health = health
        self._connect = connect
        self._prepare = prepare
        self._identity = identity
        self._look = look if address.hostname is not None else None
        self._moved = ""
        """Why another machine is now to be reported to by this name."""
        self._version = ""
        """Of the advice that was heeded last."""
        self._backoff = backoff or Backoff(most=_LONGEST_WAIT_S)
        self._sent_at = 0.0
        self._pause = trio.CancelScope()
        """The wait for the next report; an answer may shorten or lengthen it."""
        self._said: HealthStatus | None = None
        self._told = ""
        """The last trouble logged, so that only news is logged."""

    @property
    def reporting(self) -> bool:
        """Whether the balancer has had a report over the connection that stands."""
        return self._said is not None

    async def run(self) -> None:
        """Report until cancelled; no failure of the balancer or the network leaves it."""
        await self._health.wait_known()
        while True:
            began = trio.current_time()
            try:
                reason = await self._session()
            except OSError as error:
                reason = f"cannot connect: {os_reason(error)}"
            except trio.TooSlowError:
                reason = "cannot connect: no answer in time"
            except (FileProblemError, trio.BrokenResourceError) as error:
                reason = f"cannot connect: {error}"
            self._lost(reason)
            if trio.current_time() - began >= _STEADY_S:
                self._backoff.reset()
            self.standing.next_try_at = trio.current_time() + self._backoff.next()
            await trio.sleep_until(self.standing.next_try_at)
            self.standing.next_try_at = None

    async def _session(self) -> str:
        """Use one connection to its end and return why that came."""
        with trio.fail_after(_CONNECT_TIMEOUT_S):
            channel = await self._channel()
        reason = ""
        async with trio.open_nursery() as nursery:
            await channel.start(nursery)
            reason = await self._converse(channel)
            nursery.cancel_scope.cancel()
        return reason

    async def _channel(self) -> Channel:
        """Return a new connection, not yet started."""
        identity = self._identity
        metadata = identity.metadata() if identity is not None else []
        stream = await self._connect(self._host, self._port)
        self.standing.peer = _peer(stream)
        if identity is None:
            return Channel(stream, self.name, _LINK)
        secured = await identity.secure(stream, self._host)
        scheme = "https" if identity.uses_tls else "http"
        return Channel(secured, self.name, _LINK, scheme=scheme, metadata=metadata)

    async def _converse(self, channel: Channel) -> str:
        try:
            advice = await self._ask(channel)
            self._backoff.cap(min(_LONGEST_WAIT_S, advice.checks_timeout / 2))
            call = channel.stream(REPORT)
        except CallError as error:
            return str(error)
        except trio.TooSlowError:
            return "no answer to GetConfig in time"
        outcome = ["the balancer ended the stream"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._report, call, advice, outcome, nursery.cancel_scope)
            nursery.start_soon(self._follow, outcome, nursery.cancel_scope)
            await self._listen(channel, call, advice, outcome)
            nursery.cancel_scope.cancel()
        return outcome[0]

    async def _ask(self, channel: Channel) -> Advice:
        """Ask for advice and heed it. Raises CallError or TooSlowError."""
        with trio.fail_after(_CONFIG_TIMEOUT_S):
            advice = Advice.decode(await channel.unary(GET_CONFIG, b""), self.standing.peer)
        await self._prepare(self.name, advice)
        self._version = advice.version
        return advice

    async def _report(
        self, call: Call, advice: Advice, outcome: list[str], scope: trio.CancelScope
    ) -> None:
        """Send a report every period, and at once when the node's status changes."""
        try:
            while True:
                status, message = self._word()
                await call.send(encode_report(self._settings, status, message))
                self._said = status
                self._sent_at = trio.current_time()
                with trio.CancelScope(deadline=self._next_report(advice)) as self._pause:
                    while status is self._word()[0]:
                        await self._health.changed.wait()
        except CallError as error:
            outcome[0] = str(error)
            scope.cancel()

    def _word(self) -> tuple[HealthStatus, str]:
        """Return what to report to this balancer."""
        if self._moved:
            return HealthStatus.SHUTTING_DOWN, self._moved
        return self._health.status, self._health.message

    async def _follow(self, outcome: list[str], scope: trio.CancelScope) -> None:
        """Take leave of the machine that answers when its name means another one."""
        if self._look is None or self.standing.peer is None:
            return
        found = await wait_moved(self._host, self.standing.peer, self._look)
        self._moved = f"{self._host} now means {found}"
        self._health.changed.notify()
        with trio.move_on_after(_GOODBYE_S):
            while not self.left:
                await self.answered.wait()
        outcome[0] = self._moved
        scope.cancel()

    async def _listen(
        self, channel: Channel, call: Call, advice: Advice, outcome: list[str]
    ) -> None:
        try:
            while (payload := await call.receive()) is not None:
                answer = Answer.decode(payload)
                self._take(answer)
                self._pause.deadline = self._next_report(advice)
                if answer.config_version != self._version:
                    await self._ask(channel)
        except CallError as error:
            outcome[0] = str(error)
        except trio.TooSlowError:
            outcome[0] = "no answer to GetConfig in time"

    def _next_report(self, advice: Advice) -> float:
        joining = self.answer is None or (
            self.answer.joining and self._health.status is HealthStatus.SERVING
        )
        return self._sent_at + advice.period(joining=joining)

    def _take(self, answer: Answer) -> None:
        old, self.answer = self.answer, answer
        self._told = ""
        self.standing.answered(trio.current_time())
        self.left = self._said is HealthStatus.SHUTTING_DOWN and answer.draining
        if old is None:
            log.info("balancer_connected", balancer=self.name)
        if old is None or (old.state, old.status) != (answer.state, answer.status):
            log.info(
                "balancer_sees_node", balancer=self.name, state=answer.state, reason=answer.message
            )
        self.answered.notify()

    def _lost(self, reason: str) -> None:
        if self.answer is not None:
            log.warning("balancer_lost", balancer=self.name, reason=reason)
        elif reason != self._told:
            log.warning("balancer_unreachable", balancer=self.name, reason=reason)
        self._told = reason
        self.standing.failed(reason, trio.current_time())
        self.answer = None
        self.left = False
        self._moved = ""
        self._said = None
        self.answered.notify()
