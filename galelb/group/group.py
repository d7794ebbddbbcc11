# SPDX-License-Identifier: Apache-2.0
"""The group as one component of a balancer: transport, sharing, addresses and announcements."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import structlog
import trio

from galelb.announcer import Announcer, AnnouncerContext, Held, HeldKind
from galelb.errors import ConfigError, GaleError
from galelb.group.addresses import Addresses
from galelb.group.desk import GroupDesk
from galelb.group.holder import AddressHolder
from galelb.group.identity import Identity, identify
from galelb.group.member import GroupMember
from galelb.group.neighbours import NeighbourAnnouncer
from galelb.group.report import metrics as group_metrics
from galelb.group.report import peer_statuses
from galelb.group.report import status as group_status
from galelb.group.sharing import FlowSharing
from galelb.model import Interface, IPAddress, Metric
from galelb.plugins.blame import blamed, run_blamed
from galelb.transport import SyncTransport, TransportContext

if TYPE_CHECKING:
    from galelb.api.view import GroupStatus, PeerStatus
    from galelb.config import BalancerConfig
    from galelb.control.nodes import NodeDesk
    from galelb.flowshare import FlowShare
    from galelb.plugins import Plugins

__all__ = ["Group", "GroupContext"]

log = structlog.get_logger("galelb.group")

_HAND_OVER_S = 0.5
"""Between saying that addresses are to be taken over and giving them up."""
_WITHDRAW_S = 2.0
_LEAVE_S = 3.0


@attrs.frozen(kw_only=True)
class GroupContext:
    """What a balancer lends to its group."""

    config: BalancerConfig
    plugins: Plugins
    desk: NodeDesk
    private: Interface
    interfaces: Mapping[str, Interface]
    permanent: frozenset[IPAddress]
    """Addresses that the machine has for ever."""
    directory: Path
    version: str
    decisions: Mapping[str, str]
    """What operators decided, as an earlier run knew it."""
    shares: Callable[[], Mapping[str, FlowShare]]
    served: Callable[[], Mapping[IPAddress, bool]]
    """VIPs, and whether each has a node for some service."""
    tables: Callable[[], str]
    """Returns the digest of all lookup tables."""
    plan: Callable[[], None]


class Group:
    """A component, and the `Membership` that the API shows."""

    def __init__(self, context: GroupContext) -> None:
        """Raises GaleError for what cannot work, such as no address for the peers."""
        config = context.config
        self._context = context
        self._left = False
        """Whether it said goodbye; records would bring it back to life."""
        self.identity = _identity(context)
        self.transport = self._make_transport()
        self.announcer = self._make_announcer()
        self.member = GroupMember(
            config,
            self.identity,
            GroupDesk(context.desk),
            version=context.version,
            decisions=context.decisions,
            write=self._write,
            deaf=lambda: self.transport is not None and self.transport.deaf,
            changed=self._changed,
            told=context.plugins.peer_changed,
            merge=context.plugins.merge_record,
        )
        context.plugins.watch(self.member, "group")
        self.sharing = FlowSharing(
            name=self.identity.name,
            address=self.identity.address,
            port=config.load_balancer_quorum.sharing_port,
            keys=lambda: self._transport_in_use.keys,
            shares=context.shares,
            on_change=self.member.poke,
        )
        self.holder = AddressHolder(self._there)
        self.neighbours = NeighbourAnnouncer()
        self.addresses = Addresses(
            config=config,
            state=self.member.state,
            holder=self.holder,
            copies=self.sharing,
            announcer=self.announcer,
            permanent=context.permanent,
            served=context.served,
            shares=context.shares,
            plan=context.plan,
            lone=self.transport is None,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled; what must end last is started first."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.holder.run)
            await nursery.start(self.neighbours.run)
            if self.announcer is not None:
                await nursery.start(run_blamed, self.announcer.name, self.announcer)
            if self.transport is not None:
                await nursery.start(run_blamed, self.transport.name, self.transport)
                await nursery.start(self.sharing.run)
            await nursery.start(self.member.run)
            await nursery.start(self.addresses.run)
            task_status.started()

    async def leave(self) -> None:
        """Hand addresses over and say goodbye; a few seconds at most."""
        alone = not self.member.state.counted()
        self.addresses.stop()
        if not alone:
            await trio.sleep(_HAND_OVER_S)
        if self.announcer is not None:
            await _farewell(self.announcer.name, self.announcer.withdraw, _WITHDRAW_S)
        self._left = True
        if self.transport is not None:
            await _farewell(self.transport.name, self.transport.leave, _LEAVE_S)

    def use(self, config: BalancerConfig) -> None:
        """Go on with another configuration; what cannot be used is logged and left as it was."""
        self.addresses.config = config
        self.member.use(config)
        before = set() if self.transport is None else set(self.transport.keys.keys)
        for plugin, reload in self._reloads(config):
            try:
                with blamed(plugin, "reload"):
                    reload()
            except GaleError as error:
                log.error("not_reloaded", plugin=plugin, reason=str(error))  # noqa: TRY400
        if self.transport is not None and before - set(self.transport.keys.keys):
            self.sharing.prove_again()

    def planned(self) -> None:
        """Note that maps hold what was planned: tables may be others now."""
        self.member.tables(self._context.tables())

    def decisions(self) -> dict[str, str]:
        """Return what operators decided, for the next run."""
        return self.member.state.decisions.dump()

    # Membership

    def status(self) -> GroupStatus:
        """Return this balancer's place in its group."""
        vips = self._context.served().keys() - self._context.permanent
        transport = self._context.config.load_balancer_quorum.transport or ""
        return group_status(self.member.state, self.addresses, transport, sorted(vips, key=str))

    def peers(self) -> tuple[PeerStatus, ...]:
        """Return the others: those that are configured, then those that were heard besides."""
        return peer_statuses(self.member.state, self.identity, self.sharing)

    def notes(self) -> Sequence[str]:
        """Return what `galelb status` should say, one sentence each."""
        parts = (
            self.member,
            self.holder,
            self.neighbours,
            self.sharing,
            self.transport,
            self.announcer,
        )
        return [note for part in parts if part is not None for note in part.notes()]

    def metrics(self) -> Sequence[Metric]:
        """Return the group's own metrics."""
        parts = (self.sharing, self.transport)
        others = [metric for part in parts if part is not None for metric in part.metrics()]
        return group_metrics(self.member.state, self.addresses) + others

    def decide(self, address: IPAddress, *, draining: bool, weight: int | None) -> None:
        """Tell the group what an operator wants of a node."""
        self.member.decide(address, draining=draining, weight=weight)

    # inside

    @property
    def _transport_in_use(self) -> SyncTransport:
        assert self.transport is not None
        return self.transport

    def _make_transport(self) -> SyncTransport | None:
        config = self._context.config
        name = config.load_balancer_quorum.transport
        if name is None:
            return None
        context = TransportContext(
            name=self.identity.name,
            address=self.identity.address,
            port=self.identity.port,
            peers=self.identity.peers,
            directory=self._context.directory,
            peer_changed=lambda peer: self.member.peer_changed(peer),
            record_changed=lambda *record: self.member.record_changed(*record),
        )
        with blamed(name, "sync transport"):
            return self._context.plugins.sync_transport(name)(config.plugins[name], context)

    def _make_announcer(self) -> Announcer | None:
        config = self._context.config
        name = config.announce.plugin
        if name is None:
            return None
        if config.announce.gateways and self._context.plugins.announcer(name).every_balancer:
            raise ConfigError(
                [
                    f"{config.path}: announce.gateways: with {name} every balancer gets packets of"
                    " clients, but nodes can answer only the one that has their gateway: use an"
                    " announcer that gives each VIP one owner, or full_nat"
                ]
            )
        context = AnnouncerContext(
            config=config,
            directory=self._context.directory,
            interfaces=lambda: self._context.interfaces,
        )
        with blamed(name, "announcer"):
            return self._context.plugins.announcer(name)(config.plugins[name], context)

    def _write(self, key: str, value: bytes | None) -> None:
        if self.transport is not None and not self._left:
            self.transport.write(key, value)

    def _changed(self) -> None:
        """Follow what the group's state says now."""
        self.sharing.peers(
            {
                known.peer.name: (known.peer.address, known.about.sharing_port)
                for known in self.member.state.counted()
                if known.about is not None
            }
        )
        self.addresses.update()

    def _there(self, held: frozenset[Held]) -> None:
        """Announce what is on its interface; nodes have to hear of translation addresses."""
        self.neighbours.announce([one for one in held if one.kind is HeldKind.SOURCE])
        self.addresses.there(held)

    def _reloads(self, config: BalancerConfig) -> list[tuple[str, Callable[[], None]]]:
        reloads: list[tuple[str, Callable[[], None]]] = []
        if (transport := self.transport) is not None:
            options = config.plugins[transport.name]
            reloads.append((transport.name, lambda: transport.reload(options)))
        if (announcer := self.announcer) is not None:
            own = config.plugins[announcer.name]
            reloads.append((announcer.name, lambda: announcer.reload(own, config)))
        return reloads


async def _farewell(plugin: str, say: Callable[[], Awaitable[None]], at_most_s: float) -> None:
    """Have a plugin say goodbye; one that cannot must not keep others from it."""
    with trio.move_on_after(at_most_s):
        try:
            with blamed(plugin, say.__name__):
                await say()
        except GaleError as error:
            log.error("no_farewell", plugin=plugin, reason=str(error))  # noqa: TRY400


def _identity(context: GroupContext) -> Identity:
    """Return who this balancer is; without a transport nobody asks, and there is nobody else."""
    identity = identify(context.config, context.private.addresses)
    if context.config.load_balancer_quorum.transport is None:
        return attrs.evolve(identity, peers=())
    return identity
