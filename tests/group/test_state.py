# SPDX-License-Identifier: Apache-2.0
"""What balancers make of each other, over a network that this test is."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from itertools import count

import pytest

from galelb.errors import RemoteProtocolError
from galelb.flowshare import SourceAddress
from galelb.group.decisions import MAX_DECISIONS
from galelb.group.quorum import Standing
from galelb.group.state import GroupState
from galelb.group.words import About, Decision, NodeWord, SourceWord
from galelb.model import IPAddress, Peer
from galelb.transport import MAX_RECORD_VALUE

TIMEOUT = 1.0
NODE = "10.0.0.7"
NODES_NET = ip_network("10.8.0.0/16")
VIPS = [ip_address(f"192.0.2.{number}") for number in range(1, 60)]


def up(routable: bool = True) -> NodeWord:
    return NodeWord(routable=routable, name="web", weight=2)


class Wire:
    """A group in one process: what one writes, those see that are connected with it."""

    def __init__(
        self,
        *names: str,
        configs: str = "",
        enforce: bool = False,
        places: dict[IPAddress, int] | None = None,
        size: int | None = None,
    ) -> None:
        self.now = 100.0
        self.records: dict[str, dict[str, bytes | None]] = {name: {} for name in names}
        self.links: set[frozenset[str]] = set()
        self.states: dict[str, GroupState] = {}
        for number, name in enumerate(names):
            about = About(
                version="1",
                config=configs[number] if configs else "c",
                tables="",
                ready=True,
                sharing_port=9091,
            )
            self.states[name] = GroupState(
                name,
                size or len(names),
                places=None if places is None else places.items(),
                timeout_s=TIMEOUT,
                about=about,
                settings={"shared": about.config, "same": "1"},
                enforce=enforce,
                write=lambda key, value, name=name: self._write(name, key, value),
            )
        self.ports = count(1)

    def _write(self, name: str, key: str, value: bytes | None) -> None:
        self.records[name][key] = value
        for other, state in self.states.items():
            if frozenset((name, other)) in self.links:
                state.record_changed(name, key, value, self.now)

    def join(self, *names: str) -> None:
        """Connect these with each other."""
        for name in names:
            for other in names:
                if name != other and frozenset((name, other)) not in self.links:
                    self.links.add(frozenset((name, other)))
                    self._meet(name, other)
                    self._meet(other, name)

    def _meet(self, name: str, other: str) -> None:
        state = self.states[name]
        state.peer_changed(peer(other), self.now)
        for key, value in self.records[other].items():
            state.record_changed(other, key, value, self.now)

    def cut(self, name: str, *others: str, left: bool = False) -> None:
        """Cut one off from others."""
        for other in others:
            self.links.discard(frozenset((name, other)))
            self.states[name].peer_changed(peer(other, alive=False), self.now)
            self.states[other].peer_changed(peer(name, alive=False, left=left), self.now)

    def owners(self) -> dict[str, list[str]]:
        """Return who takes each VIP for its own."""
        found: dict[str, list[str]] = {str(vip): [] for vip in VIPS}
        for name, state in self.states.items():
            for vip in state.holdings(VIPS, self.now).vips:
                found[str(vip)].append(name)
        return found

    def verdicts(self, name: str) -> dict[str, bool]:
        return self.states[name].verdicts(self.now)


def peer(name: str, *, alive: bool = True, left: bool = False) -> Peer:
    number = sum(name.encode())
    address = ip_address(f"10.0.1.{number % 250}")
    return Peer(address=address, port=9090, alive=alive, name=name, left=left)


def three(**options: object) -> Wire:
    wire = Wire("a", "b", "c", **options)  # type: ignore[arg-type]
    wire.join("a", "b", "c")
    wire.now += 10.0  # everybody counts
    return wire


def test_the_majority_of_three_decides_about_a_node() -> None:
    wire = three()
    for name, routable in (("a", True), ("b", False), ("c", False)):
        wire.states[name].node_said(NODE, up(routable), wire.now)

    assert [{NODE: False}] * 3 == [wire.verdicts(name) for name in "abc"]

    wire.states["b"].node_said(NODE, up(), wire.now)

    assert [{NODE: True}] * 3 == [wire.verdicts(name) for name in "abc"]


def test_who_has_met_nobody_has_its_own_view() -> None:
    wire = Wire("a", "b", "c")
    wire.states["a"].node_said(NODE, up(), wire.now)

    assert Standing.FORMING is wire.states["a"].standing
    assert {} == wire.verdicts("a")
    assert not wire.states["a"].holdings(VIPS, wire.now).vips


def test_words_of_live_peers_do_not_grow_old() -> None:
    wire = three()
    for name in "bc":
        wire.states[name].node_said(NODE, up(), wire.now)
    wire.states["a"].node_said(NODE, up(False), wire.now)
    for _ in range(10):
        wire.now += TIMEOUT
        assert {NODE: True} == wire.verdicts("a")


def test_a_node_that_only_peers_hear_is_told_of() -> None:
    wire = three()
    wire.states["b"].node_said(NODE, up(), wire.now)

    assert {NODE: up()} == wire.states["a"].strangers()
    assert {NODE: True} == wire.verdicts("a")
    assert {} == wire.states["b"].strangers()

    wire.states["b"].node_said(NODE, None, wire.now)

    assert {} == wire.states["a"].strangers()


def test_each_vip_has_one_owner_and_moves_only_when_it_must() -> None:
    wire = three()
    before = wire.owners()
    assert all(len(owners) == 1 for owners in before.values())

    wire.cut("c", "a", "b")
    wire.states["c"].peer_changed(peer("a", alive=False), wire.now)

    after = wire.owners()
    assert Standing.CUT_OFF is wire.states["c"].standing
    assert all(len(owners) == 1 for owners in after.values())
    assert {v for v in before if before[v] != after[v]} == {v for v in before if before[v] == ["c"]}


def test_who_comes_back_waits_the_longer_the_more_often_it_dies() -> None:
    wire = three()
    before = wire.states["a"].owners(VIPS, wire.now)
    waits = []
    for _ in range(3):
        wire.cut("c", "a", "b")
        wire.join("a", "b", "c")
        began = wire.now
        while wire.states["a"].owners(VIPS, wire.now) != before:
            assert wire.now < began + 100
            wire.now += 0.5
        waits.append(wire.now - began)

    assert [2.0, 4.0, 8.0] == waits


def test_who_was_cut_off_takes_its_addresses_after_the_others_gave_them_up() -> None:
    wire = three()
    before = wire.owners()
    wire.cut("c", "a", "b")
    wire.states["c"].say(wire.now, ready=False)  # as it does while it is cut off
    wire.join("a", "b", "c")
    wire.states["c"].say(wire.now, ready=True)

    wire.now += 1.9
    assert all(len(owners) == 1 and owners != ["c"] for owners in wire.owners().values())

    wire.now += 0.2
    given_up = [vip for vip, owners in wire.owners().items() if not owners]
    assert given_up == [vip for vip in before if before[vip] == ["c"]]

    wire.now += 0.2
    assert before == wire.owners()


def test_a_farewell_is_no_death() -> None:
    wire = three()
    before = wire.states["a"].owners(VIPS, wire.now)
    for _ in range(5):
        wire.states["a"].peer_changed(peer("c", alive=False, left=True), wire.now)
        wire.states["a"].peer_changed(peer("c"), wire.now)

    assert before != wire.states["a"].owners(VIPS, wire.now)

    wire.now += 2.0

    assert before == wire.states["a"].owners(VIPS, wire.now)


def test_translation_addresses_go_to_an_heir_with_a_copy_and_back() -> None:
    wire = three()
    address = SourceAddress(address=ip_address("10.0.0.201"), first_port=1024, last_port=65535)
    wire.states["c"].use_sources([SourceWord(source=address, movable=True)])
    wire.states["b"].use_copies({"c"}, wire.now)

    def holders() -> dict[str, str]:
        found = {}
        for name, state in wire.states.items():
            holdings = state.holdings((), wire.now)
            if holdings.own:
                found[name] = "own"
            if holdings.inherited:
                found[name] = "inherited"
        return found

    assert {"c": "own"} == holders()
    assert (address,) == wire.states["a"].foreign_sources()

    wire.cut("c", "a", "b")
    wire.states["b"].use_copies((), wire.now)  # the copy of who is gone stays as current as it was

    assert {"b": "inherited"} == holders()

    wire.states["c"].say(wire.now, ready=False)
    wire.join("a", "b", "c")
    wire.states["b"].use_copies((), wire.now)  # another one is on its way

    assert {"b": "inherited"} == holders()

    wire.now += 10.0

    assert {"b": "inherited"} == holders()

    wire.states["c"].say(wire.now, ready=True)

    assert {} == holders()

    wire.now += 0.5

    assert {"c": "own"} == holders()


def test_an_address_that_does_not_move_is_never_inherited() -> None:
    wire = three()
    address = SourceAddress(address=ip_address("10.0.0.201"), first_port=1024, last_port=65535)
    wire.states["c"].use_sources([SourceWord(source=address, movable=False)])
    wire.cut("c", "a", "b")

    assert not any(wire.states[name].holdings((), wire.now).inherited for name in "ab")


def test_two_balancers_with_one_address_say_so() -> None:
    wire = three()
    address = SourceAddress(address=ip_address("10.0.0.201"), first_port=1024, last_port=65535)
    for name in "ac":
        wire.states[name].use_sources([SourceWord(source=address, movable=True)])

    assert {"10.0.0.201": "c"} == wire.states["a"].clashes()
    assert {"10.0.0.201": "a"} == wire.states["c"].clashes()
    assert {} == wire.states["b"].clashes()


def test_decisions_go_everywhere_and_the_last_one_holds() -> None:
    wire = three()
    wire.states["a"].decide(NODE, draining=True, weight=None)
    wire.cut("c", "a", "b")
    wire.states["b"].decide(NODE, draining=False, weight=5)
    wire.join("a", "b", "c")

    found = [wire.states[name].decisions.get(NODE) for name in "abc"]
    assert [(False, 5)] * 3 == [(one.draining, one.weight) for one in found if one]


def test_a_decision_outlives_the_balancer_that_was_asked() -> None:
    wire = Wire("a", "b", "c")
    wire.join("a", "b")
    wire.states["a"].decide(NODE, draining=True, weight=None)
    wire.cut("a", "b")
    wire.join("b", "c")

    found = wire.states["c"].decisions.get(NODE)
    assert found is not None
    assert found.draining


def test_decisions_survive_a_restart_and_bad_ones_are_left_out() -> None:
    wire = three()
    wire.states["a"].decide(NODE, draining=True, weight=None)
    saved = wire.states["a"].decisions.dump() | {"10.0.0.8": "nonsense"}
    later = Wire("a")
    later.states["a"].load_decisions(saved)

    assert [NODE] == [node for node, _ in later.states["a"].decisions]
    assert f"decision/{NODE}" in later.records["a"]


@pytest.mark.parametrize("enforce", [True, False])
def test_a_peer_with_another_configuration_counts_only_where_that_is_allowed(enforce) -> None:
    wire = three(configs="xxy", enforce=enforce)
    wire.states["c"].node_said(NODE, up(), wire.now)

    counted = {one.peer.name for one in wire.states["a"].counted()}
    assert counted == ({"b"} if enforce else {"b", "c"})
    assert wire.states["a"].differing(wire.states["a"].peers["c"]) == ["shared"]
    assert bool(wire.states["a"].strangers()) is not enforce
    assert (wire.states["c"].standing is Standing.FORMING) is enforce


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("about", b""),
        ("about", b'["1","c","",2,9091]'),
        ("node/10.0.0.7", b"[1,2,3,4]"),
        ("node/10.0.0.7", b'[1,"web",70000,""]'),
        ("decision/10.0.0.7", b'[1,null,-1,"x"]'),
        ("decision/10.0.0.7", b'[1,null,99999999999999999999,"x"]'),
        ("source/nowhere", b"[1,2,1]"),
        ("source/10.0.0.1", b"[" * 500),
    ],
)
def test_records_that_cannot_be_read_change_nothing(key: str, value: bytes) -> None:
    wire = three()
    wire.states["b"].node_said(NODE, up(), wire.now)
    before = wire.states["a"].peers["b"].about, wire.verdicts("a")
    with pytest.raises(RemoteProtocolError):
        wire.states["a"].record_changed("b", key, value, wire.now)

    assert (wire.states["a"].peers["b"].about, wire.verdicts("a")) == before
    assert wire.states["a"].peers["b"].bad_records == 1


def test_records_of_later_versions_are_left_alone() -> None:
    wire = three()
    wire.states["a"].record_changed("b", "poem/1", b"?", wire.now)
    wire.states["a"].record_changed("b", "about", b'["2","c","",1,9091,"more"]', wire.now)

    about = wire.states["a"].peers["b"].about
    assert about is not None
    assert about.version == "2"


def test_who_is_ready_takes_nothing_before_the_others_know_it() -> None:
    wire = three()
    wire.states["c"].say(wire.now, ready=False)
    wire.states["c"].say(wire.now, ready=True)

    assert not wire.states["c"].holdings(VIPS, wire.now).vips
    assert wire.states["c"].next_wake(wire.now) == wire.now + 0.5

    wire.now += 0.5

    assert all(len(owners) == 1 for owners in wire.owners().values())


def test_with_gateways_one_balancer_has_all_of_them_and_all_vips() -> None:
    wire = three()
    gateways = [ip_address("10.0.0.1"), ip_address("fd00::1")]
    found = [state.holdings(VIPS, wire.now, gateways) for state in wire.states.values()]

    assert [frozenset(gateways)] == [one.gateways for one in found if one.vips]
    assert [frozenset(VIPS)] == [one.vips for one in found if one.gateways]
    assert 1 == len(set(wire.states["a"].owners(VIPS, wire.now, together=True).values()))


def test_balancers_that_are_not_configured_make_no_quorum() -> None:
    wire = Wire("a", places={peer("b").address: 9090, peer("c").address: 9090}, size=3)
    state = wire.states["a"]
    state.peer_changed(peer("stray"), wire.now)

    assert Standing.FORMING is state.standing

    state.peer_changed(peer("b"), wire.now)

    assert Standing.QUORATE is state.standing

    state.peer_changed(peer("b", alive=False), wire.now)

    assert Standing.CUT_OFF is state.standing


def test_a_balancer_that_comes_back_with_another_name_keeps_its_addresses() -> None:
    wire = Wire("a", "b", "c", "renamed")
    wire.join("a", "b", "c")
    wire.now += 10.0
    address = SourceAddress(address=ip_address("10.0.0.201"), first_port=1024, last_port=65535)
    wire.states["c"].use_sources([SourceWord(source=address, movable=True)])
    wire.cut("c", "a", "b")
    wire.states["renamed"].use_sources([SourceWord(source=address, movable=True)])
    wire.join("a", "b", "renamed")
    wire.now += 70.0

    inherited = [wire.states[name].holdings((), wire.now).inherited for name in "ab"]
    assert [frozenset(), frozenset()] == inherited
    assert {address.address} == wire.states["renamed"].holdings((), wire.now).own


def test_whether_others_are_ignored_can_change() -> None:
    wire = three(configs="xxy")
    state = wire.states["a"]
    state.use_enforce(True, wire.now)

    assert {"b"} == {one.peer.name for one in state.counted()}

    wire.cut("b", "a", "c")

    assert Standing.CUT_OFF is state.standing

    state.use_enforce(False, wire.now)

    assert Standing.QUORATE is state.standing


def test_nothing_is_said_to_differ_before_settings_were_told() -> None:
    wire = three(configs="xxy")
    known = wire.states["a"].peers["c"]
    wire.states["a"].record_changed("c", "setting/0", None, wire.now)

    assert wire.states["a"].differing(known) == []


def test_records_of_forgotten_decisions_go() -> None:
    wire = Wire("a")
    for number in range(MAX_DECISIONS + 3):
        node = str(NODES_NET[number])
        wire.states["a"].decide(node, draining=True, weight=None)

    told = {key for key, value in wire.records["a"].items() if value is not None}
    decisions = {key for key in told if key.startswith("decision/")}
    assert len(decisions) == MAX_DECISIONS
    assert f"decision/{NODES_NET[2]}" not in decisions


def test_two_decisions_with_one_number_end_alike_everywhere() -> None:
    wire = Wire("a", "b", "c")
    decisions = [
        Decision(draining=draining, weight=weight, counter=1, by="a")
        for draining, weight in ((True, None), (False, 3), (True, 5))
    ]
    for name, ours in zip("abc", decisions, strict=True):
        wire.states[name].load_decisions({NODE: ours.pack().decode()})
    wire.join("a", "b", "c")

    assert [decisions[2]] * 3 == [wire.states[name].decisions.get(NODE) for name in "abc"]


@pytest.mark.parametrize("letter", ["n", "\u4e16", "\U0001f600", '"'])
def test_a_word_of_a_node_fits_into_a_record_whatever_its_name(letter: str) -> None:
    packed = NodeWord(routable=True, name=letter * 128, weight=65535).pack()

    assert len(packed) <= MAX_RECORD_VALUE
    assert NodeWord.unpack(packed).name == letter * 100
