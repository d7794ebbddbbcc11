# SPDX-License-Identifier: Apache-2.0
"""The balancer as a member of its group: what peers say goes to the nodes' health, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address

import attrs
import structlog
import trio

from galelb.config import BalancerConfig
from galelb.config.shared import digest as config_digest
from galelb.errors import LocalProtocolError, RemoteProtocolError
from galelb.group.desk import GroupDesk
from galelb.group.identity import Identity, setting_digests
from galelb.group.peers import KnownPeer
from galelb.group.quorum import Standing
from galelb.group.state import GroupState
from galelb.group.words import NODE, About, Decision, NodeWord
from galelb.hooks import hookimpl
from galelb.model import IPAddress, Node, NodeRecord, NodeState, Peer

__all__ = ["GroupMember"]

log = structlog.get_logger("galelb.group")

_ADOPTED_S = 2.0
"""Times checks_timeout: so long a restarted balancer keeps the group's word of before."""
_PAUSE_S = 0.02
"""Between two conclusions: with a thousand nodes one takes 3 ms, and news come in bursts."""
_FORGET_S = 300.0
"""A node that nobody hears is forgotten after this."""


class GroupMember:
    """Keeps a `GroupState`, and what follows from it for nodes; a component.

    It is told of nodes by the same hooks as plugins are (`Plugins.watch`), and of peers by the
    transport. `write` hands a record to the transport; `changed` is called when addresses may
    have to move; `told` passes a peer's change on to plugins, and `merge` asks them what to make
    of a peer's word on a node; `deaf` tells whether the transport hears nothing of peers.
    """

    def __init__(
        self,
        config: BalancerConfig,
        identity: Identity,
        desk: GroupDesk,
        *,
        version: str,
        decisions: Mapping[str, str],
        write: Callable[[str, bytes | None], None],
        changed: Callable[[], None],
        told: Callable[[Peer | None, Peer], None],
        merge: Callable[[NodeRecord, NodeRecord], NodeRecord | None],
        deaf: Callable[[], bool] = lambda: False,
    ) -> None:
        self.identity = identity
        self._desk = desk
        self._write = write
        self._changed = changed
        self._told = told
        self._merge = merge
        self._deaf = deaf
        self._refused_records: set[str] = set()
        self._differing: dict[str, str] = {}
        self._unheard: dict[IPAddress, float] = {}
        self._standing: Standing | None = None
        self._poked = trio.Event()
        self._started = trio.current_time()
        self._timeout_s = config.node_health.checks_timeout
        self.state = GroupState(
            identity.name,
            identity.size,
            places=frozenset(identity.peers),
            timeout_s=self._timeout_s,
            about=About(
                version=version,
                config=config_digest(config),
                tables="",
                ready=False,
                sharing_port=config.load_balancer_quorum.sharing_port,
            ),
            settings=setting_digests(config),
            enforce=config.load_balancer_quorum.enforce_single_configuration,
            write=self._tell,
        )
        self.state.load_decisions(decisions)
        for node, decision in self.state.decisions:
            self._apply(node, decision)
        for record in desk.records():
            self._say(record)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Draw conclusions whenever something was heard, and when time alone changes them."""
        task_status.started()
        while True:
            self._poked = trio.Event()
            now = trio.current_time()
            self._conclude(now)
            wake = self.state.next_wake(now)  # of what comes after that, also during the pause
            await trio.sleep(_PAUSE_S)
            with trio.move_on_at(wake):
                await self._poked.wait()

    def poke(self) -> None:
        """Have conclusions drawn soon."""
        self._poked.set()

    def use(self, config: BalancerConfig) -> None:
        """Go on with another configuration."""
        self.state.use_settings(setting_digests(config))
        self.state.say(trio.current_time(), config=config_digest(config))
        self._timeout_s = config.node_health.checks_timeout
        self.state.use_timeout(self._timeout_s)
        enforce = config.load_balancer_quorum.enforce_single_configuration
        self.state.use_enforce(enforce, trio.current_time())
        self.poke()

    # what this balancer tells

    @hookimpl
    def galelb_node_changed(self, old: NodeRecord | None, new: NodeRecord) -> None:
        """Tell peers what became of a node."""
        address = new.node.address
        if not self._desk.knows(address):
            self.state.node_said(str(address), None, trio.current_time())
        elif old is None and (decision := self.state.decisions.get(str(address))):
            self._apply(str(address), decision)
        self._say(new)
        self.poke()

    def decide(self, address: IPAddress, *, draining: bool, weight: int | None) -> None:
        """Tell peers what the operator wants of a node."""
        self.state.decide(str(address), draining=draining, weight=weight)

    def tables(self, digest: str) -> None:
        """Tell peers the digest of all lookup tables."""
        self.state.say(trio.current_time(), tables=digest)

    def _say(self, record: NodeRecord) -> None:
        address = record.node.address
        if self._desk.heard(address):
            word = NodeWord(
                routable=record.state is NodeState.ROUTABLE,
                name=record.node.name,
                weight=record.node.weight,
            )
            self.state.node_said(str(address), word, trio.current_time())

    def _tell(self, key: str, value: bytes | None) -> None:
        try:
            self._write(key, value)
            self._refused_records.discard(key)
        except LocalProtocolError as error:
            if key not in self._refused_records:
                self._refused_records.add(key)
                log.error("record_refused", key=key, reason=str(error))  # noqa: TRY400 - for users

    # what peers tell

    def peer_changed(self, peer: Peer) -> None:
        """Note that a peer joined, died, left, returned or moved."""
        before = self.state.peers.get(peer.name)
        old = None if before is None else before.peer
        self.state.peer_changed(peer, trio.current_time())
        if old is None or old.alive is not peer.alive:
            _log_peer(old, peer)
        self._told(old, peer)
        self.poke()

    def record_changed(self, name: str, key: str, value: bytes | None) -> None:
        """Take a peer's record; one that cannot be read is counted and left out."""
        try:
            if value is not None and key.startswith(NODE):
                value = self._merged(key.removeprefix(NODE), value)
            node = self.state.record_changed(name, key, value, trio.current_time())
        except RemoteProtocolError as error:
            known = self.state.peers.get(name)
            if known is not None and known.bad_records == 1:
                log.warning("record_not_taken", peer=name, key=key, reason=str(error))
            return
        if node is not None and (decision := self.state.decisions.get(node)):
            self._apply(node, decision)
        self.poke()

    def _merged(self, node: str, value: bytes) -> bytes:
        """Return a peer's word on a node, as plugins want it taken."""
        ours = self._desk.record_of(node)
        try:
            word = NodeWord.unpack(value)
        except RemoteProtocolError:
            return value
        if ours is None:
            return value
        theirs = NodeRecord(
            node=Node(address=ours.node.address, name=word.name, weight=word.weight),
            state=NodeState.ROUTABLE if word.routable else NodeState.DOWN,
            reason=word.reason,
        )
        kept = self._merge(ours, theirs)
        if kept is None:
            return value
        return attrs.evolve(word, routable=kept.state is NodeState.ROUTABLE).pack()

    def _apply(self, node: str, decision: Decision) -> None:
        try:
            address = ip_address(node)
        except ValueError:
            return
        self._desk.decide(address, draining=decision.draining, weight=decision.weight)

    # conclusions

    def _conclude(self, now: float) -> None:
        self._judge_standing()
        for name in self._differing.keys() - self.state.peers.keys():
            del self._differing[name]
        for known in self.state.peers.values():
            self._compare(known)
        self._agree(now)
        self._meet_strangers(now)
        self._changed()

    def _agree(self, now: float) -> None:
        """Have nodes judged by the group; after a start it needs a while to speak."""
        adopting = now < self._started + _ADOPTED_S * self._timeout_s
        alone = not self.state.counted() and self.state.standing is not Standing.CUT_OFF
        verdicts = {} if adopting and alone else self.state.verdicts(now, deaf=self._deaf())
        self._desk.agree(verdicts, adopting=adopting)

    def _meet_strangers(self, now: float) -> None:
        strangers = self.state.strangers()
        nodes = []
        for text, word in strangers.items():
            try:
                nodes.append(Node(address=ip_address(text), name=word.name, weight=word.weight))
            except ValueError:
                continue
        self._desk.add_strangers(nodes)
        if self.state.standing is not Standing.QUORATE:
            return
        unheard = self._desk.unheard() - {node.address for node in nodes}
        self._unheard = {one: self._unheard.get(one, now) for one in unheard}
        for address in [one for one, at in self._unheard.items() if now >= at + _FORGET_S]:
            self._desk.forget(address)

    def _judge_standing(self) -> None:
        standing = self.state.standing
        if standing is self._standing:
            return
        self._standing = standing
        facts = {"alive": 1 + len(self.state.counted()), "configured": self.state.size}
        match standing:
            case Standing.FORMING:
                log.warning("waiting_for_quorum", **facts)
            case Standing.QUORATE:
                log.info("in_quorum", **facts)
            case Standing.CUT_OFF:
                log.error("cut_off_from_quorum", hint="addresses are given up", **facts)

    def _compare(self, known: KnownPeer) -> None:
        """Say once which settings a peer has otherwise; never what they hold."""
        name = known.peer.name
        if self.state.same_config(known) is not False or not known.peer.alive:
            self._differing.pop(name, None)
            return
        keys = ", ".join(self.state.differing(known))
        if keys and self._differing.get(name) != keys:
            self._differing[name] = keys
            ignored = not self.state.heeds(known)
            log.warning("peer_has_another_configuration", peer=name, keys=keys, ignored=ignored)

    # what there is to see

    def notes(self) -> list[str]:
        """Return what `galelb status` should say of the group, one sentence each."""
        alive = f"{1 + len(self.state.counted())} of {self.state.size} balancers"
        notes = {
            Standing.FORMING: [f"waiting for a quorum: {alive}; no VIP is held until then"],
            Standing.QUORATE: [],
            Standing.CUT_OFF: [
                f"cut off from the group: {alive}. Addresses are given up, no node is added"
            ],
        }[self.state.standing]
        for name, keys in sorted(self._differing.items()):
            ignored = " and is ignored" if not self.state.heeds(self.state.peers[name]) else ""
            notes.append(f"peer {name} has another configuration{ignored}: {keys} differ")
        for address, peer in self.state.clashes().items():
            notes.append(
                f"translation address {address} is configured on {peer}, too: ports could be"
                " given twice; give each balancer its own source_addresses"
            )
        return notes


def _log_peer(old: Peer | None, new: Peer) -> None:
    facts = {"peer": new.name, "address": str(new.address), "port": new.port}
    if new.alive:
        log.info("peer_joined" if old is None else "peer_returned", **facts)
    elif new.left:
        log.info("peer_left", **facts)
    else:
        log.warning("peer_died", **facts)
