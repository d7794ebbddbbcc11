# SPDX-License-Identifier: Apache-2.0
"""The group as a whole: what its parts do together at reloads and at the end, in virtual time."""

from functools import partial
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import pytest
import trio
from structlog.testing import capture_logs

from galelb.errors import GaleError
from galelb.forwarder import Options
from galelb.group import group as group_module
from galelb.group.group import Group, GroupContext
from galelb.group.keys import KeyRing
from galelb.testing.fake_transport import FakeNetwork, FakeTransport
from tests.group.member_world import NAMES, Balancer, config

VIPS = frozenset(ip_address(f"192.0.2.{number}") for number in range(1, 21))
LATER = ip_address("192.0.2.99")
JOINED_S = 10.0


class Idle:
    """A part of the group that does nothing."""

    complete = True
    as_of = float("inf")
    lags = MappingProxyType({})

    def __init__(self, *_, **__):
        self.proofs = 0

    async def run(self, *, task_status):
        task_status.started()
        await trio.sleep_forever()

    def peers(self, peers):
        """Take note of the live peers."""

    def current(self):
        return ()

    def awaited(self, peer):
        return False

    def notes(self):
        return []

    metrics = notes

    def behind(self, peer):
        """Return nothing of a peer's flows."""

    def announce(self, held):
        """Announce nothing."""

    def hold(self, wanted):
        self.held = {one.address for one in wanted}

    def prove_again(self):
        self.proofs += 1


class FakeOptions(Options):
    """Of the transport; an operator may change them."""

    key: int = 1
    broken: bool = False


class Transport(FakeTransport):
    def __init__(self, network, options, context):
        super().__init__(network, context)
        self.used = options
        self.wrote = []

    def write(self, key, value):
        self.wrote.append(key)
        super().write(key, value)

    def reload(self, options):
        if options.broken:
            raise GaleError("the key file is empty")
        self.used = options

    @property
    def keys(self):
        return KeyRing({self.used.key: bytes(32)}, self.used.key)

    async def leave(self):
        await super().leave()
        if self.used.broken:
            raise RuntimeError("no network")


class Announcer(Idle):
    name = "arp"
    every_balancer = False

    def reload(self, options, config):
        """Go on with other options."""

    async def withdraw(self):
        raise RuntimeError("the router is gone")


def told(*, key=1, broken=False):
    """Return a configuration with the options of the fake transport."""
    made = config(3)
    quorum = made.load_balancer_quorum.model_copy(update={"transport": "fake"})
    announce = made.announce.model_copy(update={"plugin": "arp"})
    plugins = {"fake": FakeOptions(key=key, broken=broken), "arp": Options()}
    return made.model_copy(
        update={"load_balancer_quorum": quorum, "announce": announce, "plugins": plugins}
    )


class Whole:
    """A balancer with its whole group, but for sockets and interfaces."""

    def __init__(self, network, name, config):
        self.nodes = Balancer(FakeNetwork(), name, config)  # of which only the nodes are used
        self.served = dict.fromkeys(VIPS, True)
        plugins = SimpleNamespace(
            peer_changed=lambda old, new: None,
            merge_record=lambda ours, theirs: None,
            watch=lambda member, _: self.nodes.plugins.watch(member, "whole"),
            sync_transport=lambda _: partial(Transport, network),
            announcer=lambda _: Announcer,
        )
        self.tables = "t1"
        private = SimpleNamespace(addresses=[ip_address(name)])
        self.group = Group(
            GroupContext(
                config=config,
                plugins=plugins,
                desk=self.nodes.desk,
                private=private,
                interfaces={},
                permanent=frozenset(),
                directory=Path(),
                version="1",
                decisions={},
                shares=dict,
                served=lambda: self.served,
                tables=lambda: self.tables,
                plan=lambda: None,
            )
        )

    @property
    def vips(self):
        return self.group.addresses.holdings.vips


@pytest.fixture
async def three(nursery, monkeypatch):
    """Three that have met, and their network."""
    for name in ("AddressHolder", "NeighbourAnnouncer", "FlowSharing"):
        monkeypatch.setattr(group_module, name, Idle)
    network = FakeNetwork()
    balancers = [Whole(network, name, told()) for name in NAMES[:3]]
    for balancer in balancers:
        await nursery.start(balancer.group.run)
    await trio.sleep(JOINED_S)
    return network, balancers


def owners(balancers, vip):
    return [one.group.identity.name for one in balancers if vip in one.vips]


async def test_each_vip_has_one_owner_also_one_that_a_reload_brings(three, autojump_clock):
    _, balancers = three
    assert all(len(owners(balancers, vip)) == 1 for vip in VIPS)
    assert all(one.group.holder.held == one.vips for one in balancers)

    for balancer in balancers:
        balancer.served = {LATER: True, **balancer.served}
        balancer.group.use(told())
    await trio.sleep(0.5)

    assert len(owners(balancers, LATER)) == 1


async def test_who_leaves_hands_over_before_it_is_gone_and_writes_nothing_more(
    three, autojump_clock
):
    _, balancers = three
    first = balancers[0]
    assert first.vips

    with capture_logs() as logs:
        await first.group.leave()
    wrote = len(first.group.transport.wrote)
    first.tables = "t2"
    first.group.planned()
    await trio.sleep(0.2)

    assert wrote == len(first.group.transport.wrote)
    assert not first.vips
    assert all(len(owners(balancers, vip)) == 1 for vip in VIPS)
    assert [True] * 2 == [one.group.member.state.peers[NAMES[0]].peer.left for one in balancers[1:]]
    refused = [
        (one["plugin"], "router is gone" in one["reason"]) for one in logs if "plugin" in one
    ]
    assert [("arp", True)] == refused  # which kept the transport from nothing


async def test_a_transport_that_cannot_say_goodbye_ends_nothing(three, autojump_clock):
    _, balancers = three
    balancers[0].group.use(told())
    balancers[0].group.transport.used = FakeOptions(broken=True)
    with capture_logs() as logs:
        await balancers[0].group.leave()

    assert ["arp", "fake"] == [one["plugin"] for one in logs if one["event"] == "no_farewell"]


@pytest.mark.parametrize(("key", "proofs"), [(1, 0), (2, 1)])
async def test_peers_prove_themselves_anew_when_only_a_key_was_taken_away(
    three, autojump_clock, key, proofs
):
    _, balancers = three
    before = [one.vips for one in balancers]
    balancers[0].group.use(told(key=key))
    await trio.sleep(0.5)

    assert proofs == balancers[0].group.sharing.proofs
    assert before == [one.vips for one in balancers]


async def test_options_that_cannot_be_used_are_told_and_change_nothing(three, autojump_clock):
    _, balancers = three
    with capture_logs() as logs:
        balancers[0].group.use(told(key=2, broken=True))

    refused = [one for one in logs if one["event"] == "not_reloaded"]
    assert [("fake", "the key file is empty")] == [(r["plugin"], r["reason"]) for r in refused]
    assert balancers[0].group.transport.used.key == 1
    assert 0 == balancers[0].group.sharing.proofs


async def test_cut_off_its_addresses_go_to_the_others_and_come_back(three, autojump_clock):
    network, balancers = three
    before = [one.vips for one in balancers]
    network.cut(NAMES[0])
    await trio.sleep(2)

    assert not balancers[0].vips
    assert all(len(owners(balancers, vip)) == 1 for vip in VIPS)
    status = balancers[0].group.status()
    assert ("cut off", 1, 3) == (status.standing, status.alive, status.configured)

    network.heal(NAMES[0])
    await trio.sleep(JOINED_S)
    assert before == [one.vips for one in balancers]


async def test_other_tables_are_told(three, autojump_clock):
    _, balancers = three
    balancers[0].tables = "t9"
    balancers[0].group.planned()
    await trio.sleep(0.2)

    (shown,) = [one for one in balancers[1].group.peers() if one.peer.name == NAMES[0]]
    assert "t9" == shown.tables_digest
    assert shown.same_tables is False
