# SPDX-License-Identifier: Apache-2.0
"""Which addresses this balancer has now, and whether it may make new flows on its own ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

import attrs
import structlog
import trio

from galelb.announcer import Announcer, Held, HeldKind
from galelb.config import BalancerConfig
from galelb.errors import GaleError
from galelb.flowshare import FlowShare, SourceAddress
from galelb.group.joining import Joining
from galelb.group.knowledge import REROUTED_S, SETTLED_S, Copies, Knowledge
from galelb.group.quorum import Standing
from galelb.group.state import GroupState, Holdings
from galelb.group.words import SourceWord
from galelb.model import IPAddress

__all__ = ["Addresses", "Holder"]

log = structlog.get_logger("galelb.addresses")

HEARTBEAT_S = 1.0
LEASE_S = 3.0
"""Without a heartbeat for this long programs make no new flows: the addresses may have an heir."""
_LOOPBACK = "lo"


class Holder(Protocol):
    """Puts addresses on interfaces for as long as they are wanted."""

    def hold(self, wanted: Collection[Held]) -> None:
        """Hold exactly these."""


@attrs.define(kw_only=True)
class Addresses:
    """A component; `update` is called whenever the group's state changed."""

    config: BalancerConfig
    state: GroupState
    holder: Holder
    copies: Copies
    announcer: Announcer | None
    permanent: frozenset[IPAddress]
    """Addresses that the machine has for ever, which never move."""
    served: Callable[[], Mapping[IPAddress, bool]]
    """Returns the VIPs, and whether each has a node for some service."""
    shares: Callable[[], Mapping[str, FlowShare]]
    plan: Callable[[], None]
    """Called when the forwarders need another plan."""
    lone: bool
    """Without peers nothing moves: there is no lease, and VIPs are put there by the operator."""
    holdings: Holdings = attrs.Factory(Holdings)
    _held: frozenset[Held] = frozenset()
    _joining: Joining = attrs.field(init=False, factory=lambda: Joining(trio.current_time()))
    _knowledge: Knowledge = attrs.field(
        init=False, default=attrs.Factory(lambda self: Knowledge(self.copies), takes_self=True)
    )
    _ready: frozenset[str] = frozenset()
    """Who may have addresses, as far as is known here; kept for routers that choose among them."""
    _stopping: bool = False
    _shared_until: float = float("-inf")
    _moved: trio.Event = attrs.Factory(trio.Event)
    _foreign: tuple[SourceAddress, ...] = ()
    _roomy: frozenset[int] = frozenset()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Renew the permission for new flows each second, and get ready when it is time."""
        task_status.started()
        while True:
            self._moved = trio.Event()
            self.update()
            if not self.lone:
                self._permit()
            with trio.move_on_after(HEARTBEAT_S):
                await self._moved.wait()  # who has its addresses may make flows at once

    def update(self) -> None:
        """Hold what the group wants this balancer to hold."""
        now = trio.current_time()
        self._get_ready(now)
        self.state.use_sources(self._sources())
        self.state.use_copies(self.copies.current(), now)
        self._make_room()
        before, self.holdings = self.holdings, self._holdings(now)
        if self.holdings.vips - before.vips:
            self._knowledge.moved(now, SETTLED_S)
        self._see_other_ways(now)
        if before != self.holdings:
            self._moved.set()
            if not self.lone:
                self._permit()  # before the packets come
            log.info(
                "addresses",
                **{
                    name: sorted(map(str, part))
                    for name, part in attrs.asdict(self.holdings).items()
                },
            )
        self.holder.hold(self._wanted())
        self._announce()

    def there(self, held: frozenset[Held]) -> None:
        """Note which addresses really are on their interfaces; these are announced."""
        self._held = held
        self._announce()

    def stop(self) -> None:
        """Give all addresses to others, as far as there are any."""
        self._stopping = True
        self.update()

    # inside

    def _holdings(self, now: float) -> Holdings:
        movable = self.served().keys() - self.permanent
        gateways = frozenset(self.config.announce.gateways) - self.permanent
        return self.state.holdings(movable, now, gateways)

    def _see_other_ways(self, now: float) -> None:
        """Note when routers may send flows to other balancers than before."""
        if self.announcer is None or not self.announcer.every_balancer:
            return
        before = self._ready
        self._ready = frozenset(one.name for one in self.state.members(now) if one.ready)
        if self._ready != before:
            self._knowledge.moved(now, REROUTED_S)

    def _get_ready(self, now: float) -> None:
        # Who has said nothing yet is not followed, so that `complete` knows nothing of it.
        heard = sum(known.about is not None for known in self.state.counted())
        everyone = heard + 1 >= self.state.size
        ready = self._joining.ready(
            self.state.standing, now, complete=self.copies.complete, everyone=everyone
        )
        self.state.say(now, ready=ready and not self._stopping)

    def _sources(self) -> list[SourceWord]:
        return [
            SourceWord(source=one, movable=one.address not in self.permanent)
            for share in self.shares().values()
            for one in share.own()
        ]

    def _make_room(self) -> None:
        """Have forwarders keep room for the peers' flows; new generations are told anew."""
        foreign, shares = self.state.foreign_sources(), self.shares().values()
        known = frozenset(map(id, shares))
        if (foreign, known) == (self._foreign, self._roomy):
            return
        self._foreign, self._roomy = foreign, known
        for share in shares:
            share.make_room(foreign)
        self.plan()

    def _wanted(self) -> set[Held]:
        private = self.config.private_interface.net_interface_private
        held = self.holdings
        sources = set() if self.lone else held.own | held.inherited | held.gateways
        wanted = {
            Held(address=address, interface=private, kind=HeldKind.SOURCE) for address in sources
        }
        return wanted | set(self._wanted_vips())

    def _wanted_vips(self) -> Iterable[Held]:
        if self.announcer is None or self.lone:
            return ()
        if not self.announcer.every_balancer:
            public = self.config.public_interface.net_interface_public
            return [_vip(vip, public) for vip in self.holdings.vips]
        if not self.state.about.ready or self.state.standing is not Standing.QUORATE:
            return ()
        return [
            _vip(vip, _LOOPBACK)
            for vip, serves in self.served().items()
            if serves and vip not in self.permanent
        ]

    def _announce(self) -> None:
        if self.announcer is None:
            return
        if self.lone:
            public = self.config.public_interface.net_interface_public
            own = self.served().keys() & self.permanent
            self.announcer.announce([] if self._stopping else [_vip(vip, public) for vip in own])
        else:
            self.announcer.announce([one for one in self._held if one.kind is HeldKind.VIP])

    def _permit(self) -> None:
        """Renew or end the permission for new flows."""
        seconds = LEASE_S if self._may_allocate() else 0.0
        whole = self._knowledge.whole(self._dead())
        for name, share in self.shares().items():
            try:
                share.permit(seconds, whole=whole)
            except GaleError as error:
                log.error("flows_not_permitted", forwarder=name, reason=str(error))  # noqa: TRY400

    def _dead(self) -> list[str]:
        """Return the peers that ended without a farewell."""
        peers = self.state.peers.items()
        return [name for name, one in peers if not one.peer.alive and not one.peer.left]

    def _may_allocate(self) -> bool:
        """Whether this balancer alone gives out ports of its own translation addresses."""
        now = trio.current_time()
        if any(name < self.state.name for name in self.state.clashes().values()):
            self._shared_until = now + 2 * LEASE_S  # the other's may run for as long after its end
        if now < self._shared_until:
            return False
        movable = [one for one in self._sources() if one.movable]
        return not movable or {one.source.address for one in movable} <= self.holdings.own


def _vip(address: IPAddress, interface: str) -> Held:
    return Held(address=address, interface=interface, kind=HeldKind.VIP)
