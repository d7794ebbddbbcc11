# SPDX-License-Identifier: Apache-2.0
"""Which addresses a balancer takes, gives up and announces; in virtual time."""

from __future__ import annotations

import json
from ipaddress import ip_address

import attrs
import pytest
import trio

from galelb.announcer import Held, HeldKind
from galelb.config import BalancerConfig
from galelb.errors import GaleError
from galelb.flowshare import SourceAddress
from galelb.group.addresses import HEARTBEAT_S, LEASE_S, Addresses
from galelb.group.knowledge import REROUTED_S
from galelb.group.state import GroupState
from galelb.group.words import About, SourceWord
from galelb.model import Peer

VIP, OTHER_VIP, OWN_VIP = (ip_address(f"192.0.2.{n}") for n in (1, 2, 9))
BEAT_S = 1.1 * HEARTBEAT_S
SOURCE = ip_address("10.0.0.201")
CONFIG = BalancerConfig.model_validate_json(
    json.dumps(
        {
            "private_interface": {"net_interface_private": "prv0"},
            "public_interface": {"net_interface_public": "pub0"},
        }
    )
)


class Holder:
    def __init__(self) -> None:
        self.wanted: set[Held] = set()

    def hold(self, wanted):
        self.wanted = set(wanted)


@attrs.define
class Copies:
    complete: bool = True
    names: frozenset[str] = frozenset()
    behind: float = 0.0
    ended: frozenset[str] = frozenset()

    @property
    def as_of(self):
        return trio.current_time() - self.behind

    def awaited(self, peer):
        return peer in self.ended

    def current(self):
        return self.names


class Announcer:
    every_balancer = False

    def __init__(self) -> None:
        self.vips: list[Held] | None = None

    def announce(self, vips):
        self.vips = list(vips)


class Everywhere(Announcer):
    every_balancer = True


class Share:
    """A forwarder's flows, of which only permissions matter here."""

    def __init__(self, address=SOURCE) -> None:
        self.source = SourceAddress(address=address, first_port=1024, last_port=65535)
        self.permits: list[tuple[float | None, bool]] = []
        self.rooms: list[tuple[SourceAddress, ...]] = []
        self.failing = False

    def own(self):
        return (self.source,)

    def make_room(self, addresses):
        self.rooms.append(tuple(addresses))

    def permit(self, seconds, *, whole):
        if self.failing:
            raise GaleError("the map is gone")
        self.permits.append((seconds, whole))


class Stage:
    """One of a group with what it works on."""

    def __init__(self, size=3, announcer=None, permanent=(OWN_VIP,)) -> None:
        about = About(version="1", config="c", tables="", ready=False, sharing_port=9091)
        self.state = GroupState(
            "b",
            size,
            timeout_s=1.0,
            about=about,
            settings={},
            enforce=False,
            write=lambda *_: None,
        )
        self.about = attrs.evolve(about, ready=False)
        self.holder, self.copies = Holder(), Copies()
        self.announcer = Announcer() if announcer is None else announcer
        self.share = Share()
        self.served = {VIP: True, OTHER_VIP: True, OWN_VIP: True}
        self.plans = 0
        self.addresses = Addresses(
            config=CONFIG,
            state=self.state,
            holder=self.holder,
            copies=self.copies,
            announcer=self.announcer,
            permanent=frozenset(permanent),
            served=lambda: self.served,
            shares=lambda: {"l4_nat": self.share},
            plan=self._plan,
            lone=False,
        )

    def _plan(self) -> None:
        self.plans += 1

    def meet(self, name, *, source=None) -> None:
        address = ip_address(f"10.0.0.{11 + ord(name[0]) % 100}")
        peer = Peer(address=address, port=9090, alive=True, name=name)
        self.state.peer_changed(peer, trio.current_time())
        self.state.record_changed(name, "about", self.about.pack(), trio.current_time())
        if source is not None:
            word = SourceWord(source=attrs.evolve(self.share.source, address=source), movable=True)
            self.state.record_changed(name, f"source/{source}", word.pack(), trio.current_time())
        self.addresses.update()

    def hear_ready(self, name) -> None:
        about = attrs.evolve(self.about, ready=True)
        self.state.record_changed(name, "about", about.pack(), trio.current_time())
        self.addresses.update()

    def lose(self, name, *, left=False) -> None:
        peer = attrs.evolve(self.state.peers[name].peer, alive=False, left=left)
        self.state.peer_changed(peer, trio.current_time())
        self.addresses.update()

    def held(self, kind) -> set[str]:
        return {str(one.address) for one in self.holder.wanted if one.kind is kind}

    @property
    def permitted(self) -> float | None:
        return self.share.permits[-1][0]


async def run(nursery, stage) -> Stage:
    await nursery.start(stage.addresses.run)
    await trio.testing.wait_all_tasks_blocked()
    return stage


async def test_who_starts_takes_nothing_before_it_has_met_the_others(nursery, autojump_clock):
    stage = await run(nursery, Stage())
    stage.meet("a")

    assert not stage.state.about.ready
    assert 0.0 == stage.permitted

    stage.meet("c")
    await trio.sleep(BEAT_S)

    assert stage.state.about.ready
    assert {str(SOURCE)} == stage.held(HeldKind.SOURCE)
    assert LEASE_S == stage.permitted


async def test_who_is_missing_is_waited_for_only_a_while(nursery, autojump_clock):
    stage = await run(nursery, Stage())
    stage.meet("a")
    await trio.sleep(2.0)
    assert not stage.state.about.ready

    await trio.sleep(3.0)

    assert stage.state.about.ready


async def test_no_address_is_taken_before_the_copy_is_complete(nursery, autojump_clock):
    stage = Stage()
    stage.copies.complete = False
    await run(nursery, stage)
    stage.meet("a")
    stage.meet("c")
    await trio.sleep(10.0)

    assert not stage.state.about.ready
    assert (0.0, False) == stage.share.permits[-1]

    stage.copies.complete = True
    await trio.sleep(4 * BEAT_S)

    assert stage.state.about.ready
    assert (LEASE_S, True) == stage.share.permits[-1]


async def test_a_later_peer_does_not_make_who_is_ready_unready(nursery, autojump_clock):
    stage = await run(nursery, Stage())
    stage.meet("a")
    await trio.sleep(5.0)
    stage.copies.complete = False
    stage.meet("c")
    await trio.sleep(BEAT_S)

    assert stage.state.about.ready


async def test_cut_off_everything_is_given_up_until_the_others_are_back(nursery, autojump_clock):
    stage = await run(nursery, Stage())
    stage.meet("a")
    stage.meet("c")
    await trio.sleep(BEAT_S)
    stage.lose("a")
    stage.lose("c")
    await trio.sleep(BEAT_S)

    assert set() == stage.holder.wanted
    assert 0.0 == stage.permitted
    assert not stage.state.about.ready

    stage.copies.complete = False
    stage.meet("a")
    await trio.sleep(5.0)

    assert set() == stage.holder.wanted

    stage.copies.complete = True
    await trio.sleep(2 * BEAT_S)

    assert {str(SOURCE)} == stage.held(HeldKind.SOURCE)


async def test_the_addresses_of_a_dead_peer_are_inherited(nursery, autojump_clock):
    stage = await run(nursery, Stage(size=2))
    theirs = ip_address("10.0.0.202")
    stage.meet("a", source=theirs)
    stage.hear_ready("a")
    await trio.sleep(5.0)
    assert {str(SOURCE)} == stage.held(HeldKind.SOURCE)

    stage.lose("a")

    assert {str(SOURCE), str(theirs)} == stage.held(HeldKind.SOURCE)
    assert {str(VIP), str(OTHER_VIP)} == stage.held(HeldKind.VIP)


async def test_forwarders_keep_room_for_the_addresses_of_peers(nursery, autojump_clock):
    stage = await run(nursery, Stage(size=2))
    theirs = ip_address("10.0.0.202")
    stage.meet("a", source=theirs)
    plans = stage.plans

    assert [theirs] == [one.address for one in stage.share.rooms[-1]]

    stage.addresses.update()
    assert plans == stage.plans

    stage.share = Share()  # another generation of programs
    stage.addresses.update()

    assert [theirs] == [one.address for one in stage.share.rooms[-1]]
    assert plans + 1 == stage.plans


async def test_addresses_of_the_machine_never_move_and_may_always_be_used(nursery, autojump_clock):
    stage = await run(nursery, Stage(permanent=(OWN_VIP, VIP, OTHER_VIP, SOURCE)))

    assert set() == stage.holder.wanted
    assert LEASE_S == stage.permitted


async def test_of_two_with_one_address_only_the_first_by_name_uses_it(nursery, autojump_clock):
    stage = await run(nursery, Stage())
    stage.meet("a")
    stage.meet("c", source=SOURCE)
    await trio.sleep(BEAT_S)
    assert LEASE_S == stage.permitted

    stage.meet("a", source=SOURCE)
    await trio.sleep(BEAT_S)

    assert 0.0 == stage.permitted


async def test_only_what_is_there_is_announced(nursery, autojump_clock):
    stage = await run(nursery, Stage(size=1))
    await trio.sleep(BEAT_S)
    assert [] == stage.announcer.vips

    there = {Held(address=VIP, interface="pub0", kind=HeldKind.VIP)}
    source = Held(address=SOURCE, interface="prv0", kind=HeldKind.SOURCE)
    stage.addresses.there(frozenset(there | {source}))

    assert list(there) == stage.announcer.vips


async def test_with_ecmp_all_have_every_vip_that_has_a_node(nursery, autojump_clock):
    stage = await run(nursery, Stage(announcer=Everywhere()))
    stage.meet("a")
    stage.meet("c")
    stage.served[OTHER_VIP] = False
    await trio.sleep(BEAT_S)

    vips = [one for one in stage.holder.wanted if one.kind is HeldKind.VIP]
    assert [(VIP, "lo")] == [(one.address, one.interface) for one in vips]

    stage.lose("a")
    stage.lose("c")

    assert set() == stage.held(HeldKind.VIP)


async def test_without_an_announcer_vips_are_left_to_the_operator(nursery, autojump_clock):
    stage = Stage(size=1)
    stage.addresses.announcer = None
    await run(nursery, stage)
    await trio.sleep(BEAT_S)

    assert set() == stage.held(HeldKind.VIP)


@pytest.mark.parametrize("announcer", [Announcer, Everywhere])
async def test_who_stops_leaves_its_addresses_to_others(announcer, nursery, autojump_clock):
    stage = await run(nursery, Stage(announcer=announcer()))
    stage.meet("a")
    stage.meet("c")
    await trio.sleep(BEAT_S)
    assert stage.holder.wanted

    stage.addresses.stop()

    assert set() == stage.holder.wanted
    assert not stage.state.about.ready


async def test_a_map_that_cannot_be_written_ends_nothing(nursery, autojump_clock):
    stage = await run(nursery, Stage(size=1))
    stage.share.failing = True
    await trio.sleep(3 * BEAT_S)
    stage.share.failing = False
    before = len(stage.share.permits)
    await trio.sleep(BEAT_S)

    assert len(stage.share.permits) > before


async def test_a_lone_balancer_announces_what_the_machine_has(nursery, autojump_clock):
    stage = Stage(size=1, permanent=(VIP,))
    stage.addresses.lone = True
    await run(nursery, stage)
    await trio.sleep(BEAT_S)

    assert set() == stage.holder.wanted
    assert [VIP] == [one.address for one in stage.announcer.vips]
    assert [] == stage.share.permits


async def test_the_gateways_of_nodes_are_held_on_their_side(nursery, autojump_clock):
    stage = Stage(size=1)
    gateway = ip_address("10.0.0.1")
    announce = CONFIG.announce.model_copy(update={"gateways": (gateway,)})
    stage.addresses.config = CONFIG.model_copy(update={"announce": announce})
    await run(nursery, stage)
    await trio.sleep(2 * BEAT_S)

    assert Held(address=gateway, interface="prv0", kind=HeldKind.SOURCE) in stage.holder.wanted


async def test_flows_that_nobody_knows_are_none_for_a_while_after_a_vip_was_taken(
    nursery, autojump_clock
):
    stage = await run(nursery, Stage(size=2))
    stage.meet("a")
    stage.hear_ready("a")
    await trio.sleep(10.0)
    assert (LEASE_S, True) == stage.share.permits[-1]

    stage.lose("a")
    await trio.sleep(0.1)
    assert (LEASE_S, False) == stage.share.permits[-1]

    await trio.sleep(2 * BEAT_S)

    assert (LEASE_S, True) == stage.share.permits[-1]


async def test_what_the_last_owner_made_is_waited_for_as_long_as_copies_are_behind(
    nursery, autojump_clock
):
    stage = await run(nursery, Stage(size=3))
    for name in ("a", "c"):
        stage.meet(name)
        stage.hear_ready(name)
    await trio.sleep(10.0)
    stage.copies.behind = 3.0
    stage.lose("a")
    await trio.sleep(3.0)
    assert (LEASE_S, False) == stage.share.permits[-1]

    await trio.sleep(1.5 + BEAT_S)

    assert (LEASE_S, True) == stage.share.permits[-1]


@pytest.mark.parametrize("left", [False, True])
async def test_the_flows_of_a_daemon_that_died_alone_are_waited_for(nursery, autojump_clock, left):
    stage = await run(nursery, Stage(size=2))
    stage.meet("a")
    stage.hear_ready("a")
    await trio.sleep(10.0)
    stage.copies.ended = frozenset({"a"})
    stage.lose("a", left=left)
    await trio.sleep(10.0)
    assert (LEASE_S, left) == stage.share.permits[-1]

    stage.meet("a")
    await trio.sleep(10.0)

    assert (LEASE_S, True) == stage.share.permits[-1]


@pytest.mark.parametrize("announcer", [Announcer, Everywhere])
async def test_with_ecmp_flows_move_long_after_a_balancer_came(nursery, autojump_clock, announcer):
    """VIPs of two others are theirs before and after: a single owner would see nothing move."""
    stage = await run(nursery, Stage(announcer=announcer(), permanent=(OWN_VIP, VIP, OTHER_VIP)))
    stage.meet("a")
    stage.hear_ready("a")
    stage.meet("c")
    await trio.sleep(20.0)
    assert (LEASE_S, True) == stage.share.permits[-1]

    stage.hear_ready("c")
    await trio.sleep(REROUTED_S - BEAT_S)
    assert (LEASE_S, announcer is Announcer) == stage.share.permits[-1]

    await trio.sleep(2 * BEAT_S)

    assert (LEASE_S, True) == stage.share.permits[-1]


async def test_flows_are_permitted_before_the_address_that_brings_them_is_there(
    nursery, autojump_clock
):
    stage = Stage(size=1)
    permitted = []
    hold = stage.holder.hold

    def watched(wanted):
        if any(one.kind is HeldKind.VIP for one in wanted):
            permitted.append(stage.permitted)
        hold(wanted)

    stage.holder.hold = watched
    await run(nursery, stage)
    await trio.sleep(2 * BEAT_S)

    assert LEASE_S == permitted[0]


async def test_an_address_of_two_is_used_by_the_second_when_the_firsts_lease_is_over(
    nursery, autojump_clock
):
    stage = await run(nursery, Stage(size=2))
    stage.meet("a", source=SOURCE)
    stage.hear_ready("a")
    await trio.sleep(10.0)
    assert 0.0 == stage.permitted

    stage.lose("a")
    await trio.sleep(LEASE_S)
    assert 0.0 == stage.permitted

    await trio.sleep(2 * LEASE_S)
    assert LEASE_S == stage.permitted
