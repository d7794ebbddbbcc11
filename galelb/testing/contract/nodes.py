# SPDX-License-Identifier: Apache-2.0
"""Nodes come, go and change: nothing is passed for want of one, and flows stay where they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from galelb.abi import NextHopFlag, NodeFlag, Reason
from galelb.bpf.pipeline import Context
from galelb.testing.cases import Play
from galelb.testing.contract.stage import Stage, broken, of_kinds
from galelb.testing.packets import frame
from galelb.testing.runner import Outcome, PacketRunner, Verdict
from galelb.testing.world import PUBLIC, TestNode

__all__ = ["NodeRules", "flow_frames"]

FLOWS = 2000
WEIGHTS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
MOST_MOVED = 0.01
"""Share of the others' flows that may move when one node leaves."""
TOLERANCE = 0.03
"""2 % of the flows, and what the hash of so few flows adds."""
CLIENTS = {4: "203.0.113.77", 6: "2001:db8:f::77"}
NETWORK = 28
"""Offset of the lower half of a client's IPv4 address, and of the end of its IPv6 /64."""
NO_NODE = "Without a routable node a packet to a service is dropped and counted, never passed."


def flow_frames(runner: PacketRunner, kind: str, count: int, *, first: int = 1) -> list[bytes]:
    """Return the first packets of so many flows; their checksums are right for one of them.

    Each is of another client in another network: a forwarder may choose nodes by either.
    """
    service = next(s for s in runner.services.values() if s.name == kind)
    client, protocol = CLIENTS[service.vip.version], service.protocol.name.lower()
    tags = [service.vlan] if service.vlan else []
    data = frame(client, str(service.vip), 1, service.port, protocol=protocol, vlans=tags)
    at = (34 if service.vip.version == 4 else 54) + 4 * len(tags)
    words = [number.to_bytes(2, "big") for number in range(first, first + count)]
    network = NETWORK + 4 * len(tags)
    head, middle, rest = data[:network], data[network + 2 : at], data[at + 2 :]
    return [head + word + middle + word + rest for word in words]


class NodeRules(Stage):
    """Part of the contract: which node a packet goes to, and what happens without one."""

    def test_without_a_routable_node_packets_are_dropped(self, context: Context, kind: str) -> None:
        """The kernel owns the VIP and would answer with a RST."""
        play = self.start(context, f"empty{kind[-1]}")

        self.demand(play, play.talk.to_vip(), NO_NODE, Reason.NO_NODE)

    @pytest.mark.parametrize("missing", ["next hop", "validity"])
    def test_a_node_whose_next_hop_is_not_known_gets_nothing(
        self, context: Context, kind: str, missing: str
    ) -> None:
        """The control plane is asked to resolve it, meanwhile packets are dropped."""
        rule = "A packet to a node without a next hop is dropped and counted as no_neighbour."
        play = self._opened(context, kind)
        node, world = play.talk.reached, play.runner.world
        if missing == "next hop":
            play.runner.set_node(node, next_hop=0)
        else:
            play.runner.set_next_hop(node.index, world.private, node.mac, flags=NextHopFlag(0))

        self._refused(play, rule, Reason.NO_NEIGHBOUR)

    def test_a_node_that_is_gone_gets_nothing(self, context: Context, kind: str) -> None:
        """Until the table is written anew, its packets are dropped; stateful ones may move."""
        rule = "A packet to a node that is gone is dropped, or goes to another one."
        play = self._opened(context, kind)
        play.runner.set_node(play.talk.reached, NodeFlag(0))
        data = play.talk.to_vip(payload=b"anybody?")

        outcome = play.send(data)

        moved = outcome.reason is Reason.FORWARDED and outcome.node != play.talk.reached.index
        if not moved and (outcome.verdict, outcome.reason) != (Verdict.DROP, Reason.NODE_GONE):
            broken(rule, data, PUBLIC, outcome)

    def test_a_new_mac_address_is_followed_at_once(self, context: Context, kind: str) -> None:
        """Next hops are objects that the control plane keeps current."""
        rule = "The frame goes to the MAC address of the node's next hop."
        play = self._opened(context, kind)
        mac = "02:00:00:00:99:99"
        play.runner.set_next_hop(play.talk.reached.index, play.runner.world.private, mac)
        data = play.talk.to_vip(payload=b"x")

        outcome = play.send(data)

        if outcome.data[:6] != bytes.fromhex(mac.replace(":", "")):
            broken(rule, data, PUBLIC, outcome, f"must go to {mac}")

    def test_a_flow_keeps_its_node(self, context: Context, kind: str) -> None:
        """Every packet of it."""
        rule = "All packets of a flow go to one node."
        play = self._opened(context, kind)
        for number in range(5):
            data = play.talk.to_vip(payload=bytes([number]))

            outcome = self.demand(play, data, rule, Reason.FORWARDED)

            if outcome.node != play.talk.reached.index:
                broken(rule, data, PUBLIC, outcome, f"went to {play.talk.reached.index} before")

    # tables, with many flows

    @of_kinds("tcp4", "udp6")
    def test_a_node_that_leaves_moves_only_its_flows(self, kind: str) -> None:
        """Its own, and one of a hundred of the others'; none of those where flows are kept."""
        runner = self.crowd("xdp")
        number, nodes = self._table(runner, kind)
        frames = flow_frames(runner, kind, FLOWS)
        before = self._reached(runner, frames)
        gone, rest = nodes[3], [n for n in nodes if n is not nodes[3]]
        runner.set_node(gone, NodeFlag(0))
        runner.set_table(number, rest)

        after = self._reached(runner, frames)

        runner.set_table(number, nodes)
        moved = sum(a != b for a, b in zip(before, after, strict=True) if a != gone.index)
        assert gone.index not in after, "flows still go to a node that left"
        most = 0 if self.forwarder.stateful else MOST_MOVED * FLOWS
        assert moved <= most, f"{moved} of {FLOWS} flows of other nodes moved, at most {most:.0f}"

    @of_kinds("tcp4", "udp6")
    def test_weights_are_respected(self, kind: str) -> None:
        """A node's share of new flows is its share of the weights."""
        runner = self.crowd("xdp")
        number, nodes = self._table(runner, kind)
        runner.set_table(number, nodes, WEIGHTS)

        reached = Counter(self._reached(runner, flow_frames(runner, kind, FLOWS, first=20_000)))

        runner.set_table(number, nodes)
        for node, weight in zip(nodes, WEIGHTS, strict=True):
            share, wanted = reached[node.index] / FLOWS, weight / sum(WEIGHTS)
            assert abs(share - wanted) <= TOLERANCE, f"node {node.address}: {share}, not {wanted}"

    @of_kinds("tcp4", "udp6")
    def test_another_instance_chooses_the_same_nodes(self, kind: str) -> None:
        """Whatever the order in which services and nodes came, on every balancer of a group."""
        one, other = self.crowd("xdp"), self.jumbo()
        self._table(one, kind)
        number, nodes = self._table(other, kind)
        other.set_table(number, nodes[::-1])
        frames = flow_frames(one, kind, 200, first=40_000)

        assert self._reached(one, frames) == self._reached(other, frames)

    def _table(self, runner: PacketRunner, name: str) -> tuple[int, list[TestNode]]:
        """Return a service's id, and the nodes of its family."""
        number = next(n for n, s in runner.services.items() if s.name == name)
        version = runner.services[number].vip.version
        nodes = [n for n in runner.eligible(number) if n.address.version == version]
        runner.set_table(number, nodes)
        return number, nodes

    def _reached(self, runner: PacketRunner, frames: Sequence[bytes]) -> list[int]:
        """Return the node of each frame; all must be forwarded."""
        outcomes: list[Outcome] = runner.run_all([(data, PUBLIC) for data in frames])
        for data, outcome in zip(frames, outcomes, strict=True):
            if outcome.reason is not Reason.FORWARDED:
                broken("Every flow reaches a node.", data, PUBLIC, outcome)
        return [outcome.node for outcome in outcomes]

    def _opened(self, context: Context, kind: str) -> Play:
        play = self.start(context, kind)
        play.open()
        return play

    def _refused(self, play: Play, rule: str, reason: Reason) -> None:
        data = play.talk.to_vip(payload=b"hello?")
        outcome = play.send(data)
        if (outcome.verdict, outcome.reason) != (Verdict.DROP, reason):
            broken(rule, data, PUBLIC, outcome, f"must be dropped as {reason.name}")
