# SPDX-License-Identifier: Apache-2.0
"""One member, message by message."""

import itertools
import random
from ipaddress import IPv4Address

import attrs
import pytest
from galelb_plugins.sync_gossip.messages import (
    Ack,
    Claim,
    Exchange,
    Forgotten,
    Gossip,
    Left,
    MemberChanged,
    Nack,
    Ping,
    PingRequest,
    Record,
    RecordChanged,
    Send,
    Snapshot,
    State,
)
from galelb_plugins.sync_gossip.suspicion import Suspicions
from galelb_plugins.sync_gossip.swim import Swim
from galelb_plugins.sync_gossip.timing import Settings, timing
from galelb_plugins.sync_gossip.wire import MAX_KEY, MAX_VALUE, SNAPSHOT_NEWS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from galelb.errors import LocalProtocolError

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def address(name):
    return IPv4Address("10.0.0.0") + ord(name), 7946


def claim(name, state=State.ALIVE, incarnation=0, by=""):
    return Claim(name, address(name), incarnation, state, by)


class Driver:
    """The member "a" that knows `others`; `out` holds what it wants since the last input."""

    def __init__(self, others="bcd", **settings):
        self.now = 100.0
        self.settings = Settings(**settings)
        self.swim = Swim("a", address("a"), rng=random.Random(1), settings=self.settings)
        self.swim.start(self.now)
        self.hear("b", Gossip(tuple(map(claim, others))))
        self.times = timing(self.settings, len(others) + 1)

    def hear(self, sender, message):
        self.swim.receive(self.now, sender, address(sender), message)
        self.out = self.swim.take()
        return self.out

    def wake(self):
        self.now = self.swim.next_wake()
        self.swim.wake(self.now)
        self.out = self.swim.take()
        return self.out

    def answer(self):
        """Let everyone answer the pings that were sent."""
        for _, ping in self.sent(Ping):
            self.hear(ping.target, Ack(ping.number))

    def wake_until(self, kind, within=100):
        """Wake it until it sends such a message; return the messages with where they go."""
        for _ in range(within):
            sent = self.sent(kind, self.wake())
            if sent:
                return sent
        raise AssertionError(f"no {kind.__name__}")

    def sent(self, kind, out=None):
        sends = [one for one in self.out if isinstance(one, Send)]
        return [(one.address, one.message) for one in sends if isinstance(one.message, kind)]

    def state(self, name):
        return {one.name: one for one in self.swim.claims()}.get(name)

    def changes(self):
        return [(one.name, one.state) for one in self.out if isinstance(one, MemberChanged)]


def test_a_ping_is_answered_with_its_number():
    member = Driver()

    member.hear("b", Ping(7, "a"))

    ((to, ack),) = member.sent(Ack)
    assert (address("b"), 7) == (to, ack.number)


def test_a_ping_for_another_is_not_answered():
    """An address may be somebody else's by now."""
    member = Driver()

    assert [] == member.hear("b", Ping(7, "z"))
    assert {"for_another": 1} == member.swim.drops


def test_ones_own_messages_are_not_taken():
    member = Driver()

    assert [] == member.hear("a", Ping(7, "a"))
    assert {"from_oneself": 1} == member.swim.drops


def test_who_does_not_answer_is_asked_through_others_and_then_suspected():
    member = Driver()
    ((to, ping),) = member.wake_until(Ping)
    start = member.now

    requests = member.wake_until(PingRequest)
    assert pytest.approx(member.times.ack_s) == member.now - start
    assert {ping.target} == {request.target for _, request in requests}
    assert {address(name) for name in "bcd" if name != ping.target} == {to for to, _ in requests}

    while not member.changes():
        member.wake()
    assert pytest.approx(member.times.probe_s) == member.now - start
    assert [(ping.target, State.SUSPECT)] == member.changes()
    # It is told at once, so that it can refute.
    assert to in {to for to, _ in member.sent(Gossip)}


@pytest.mark.parametrize("answer", ["direct", "through a helper"])
def test_who_answers_is_not_suspected(answer):
    member = Driver()
    ((_, ping),) = member.wake_until(Ping)
    helper = next(name for name in "bcd" if name != ping.target)
    if answer != "direct":
        member.wake_until(PingRequest)

    member.hear(ping.target if answer == "direct" else helper, Ack(ping.number))
    member.wake_until(Ping)

    assert State.ALIVE is member.state(ping.target).state


def test_an_answer_to_another_ping_is_none():
    member = Driver()
    ((_, ping),) = member.wake_until(Ping)

    member.hear(ping.target, Ack(ping.number + 1))
    member.hear("b", Nack(ping.number + 1))

    assert {"late_ack": 1, "late_nack": 1} == member.swim.drops


def test_a_helper_pings_and_passes_the_answer_on():
    member = Driver()

    member.hear("b", PingRequest(7, "c", address("c")))
    ((to, ping),) = member.sent(Ping)
    assert address("c") == to
    member.hear("c", Ack(ping.number))

    assert [(address("b"), Ack(7))] == member.sent(Ack)
    # It has answered: no Nack follows.
    for _ in range(10):
        member.wake()
        assert [] == member.sent(Nack)


def test_a_helper_that_hears_nothing_says_so():
    member = Driver()
    start = member.now

    member.hear("b", PingRequest(7, "c", address("c")))

    assert [(address("b"), Nack(7))] == member.wake_until(Nack)
    assert pytest.approx(member.times.nack_s) == member.now - start


def test_a_helpers_ping_is_answered_by_its_target_alone():
    member = Driver()
    member.hear("b", PingRequest(7, "c", address("c")))
    ((_, ping),) = member.sent(Ping)

    assert [] == member.hear("d", Ack(ping.number))


def test_relays_are_bounded():
    member = Driver(relays=2)

    for number in range(3):
        member.hear("b", PingRequest(number, "c", address("c")))

    assert {"too_many_relays": 1} == member.swim.drops


@pytest.mark.parametrize(("nacks", "health"), [(2, 0), (1, 1), (0, 2)])
def test_missing_nacks_are_a_sign_that_the_fault_is_here(nacks, health):
    member = Driver()
    ((_, ping),) = member.wake_until(Ping)
    member.wake_until(PingRequest)

    helpers = [name for name in "bcd" if name != ping.target]
    for name in helpers[:nacks]:
        member.hear(name, Nack(ping.number))
    member.wake_until(Ping)

    assert health == member.swim.health


def test_poor_health_slows_probes_down_and_success_heals():
    member = Driver()
    member.hear("b", Gossip((claim("a", State.SUSPECT, 0, "b"),)))
    assert 1 == member.swim.health

    member.wake_until(Ping)
    start = member.now
    member.wake_until(PingRequest)
    assert pytest.approx(2 * member.times.ack_s) == member.now - start

    ((_, ping),) = member.wake_until(Ping)
    assert pytest.approx(2 * member.times.probe_s) == member.now - start
    before = member.swim.health
    member.hear(ping.target, Ack(ping.number))
    assert before - 1 == member.swim.health


@pytest.mark.parametrize("state", [State.SUSPECT, State.DEAD, State.LEFT])
def test_what_is_said_of_oneself_is_refuted(state):
    member = Driver()

    member.hear("b", Ping(7, "a", (claim("a", state, 4, "b" * (state is State.SUSPECT)),)))

    ((_, ack),) = member.sent(Ack)
    assert claim("a", incarnation=5) == ack.news[0]


def test_who_missed_a_refutation_hears_it_again():
    member = Driver()
    old = claim("a", State.SUSPECT, 0, "b")
    for _ in range(20):
        member.hear("b", Ping(7, "a", (old,)))

    assert claim("a", incarnation=1) in member.sent(Ack)[0][1].news
    member.hear("c", Gossip((old,)))
    assert [(address("c"), Gossip((claim("a", incarnation=1),)))] == member.sent(Gossip)


def test_a_suspect_hears_of_it_with_every_ping():
    """Lifeguard's buddy system: also when it has been told to all often enough."""
    member = Driver("bcd")
    suspicion = claim("b", State.SUSPECT, 0, "z")
    member.hear("c", Gossip((suspicion,)))
    member.swim._queue.take(10_000, 1)
    assert 0 == len(member.swim._queue)

    ((_, ping),) = member.wake_until(Ping)

    # It is also the next one to be probed, whoever's turn it was.
    assert ("b", (suspicion,)) == (ping.target, ping.news)


def test_in_each_round_everyone_is_probed_once_and_rounds_differ():
    member = Driver("bcdef")
    targets = []
    while len(targets) < 5 * 10:
        ((_, ping),) = member.wake_until(Ping)
        targets.append(ping.target)
        member.hear(ping.target, Ack(ping.number))

    rounds = ["".join(targets[at : at + 5]) for at in range(0, 50, 5)]
    assert {"bcdef"} == {"".join(sorted(one)) for one in rounds}
    assert len(set(rounds)) > 5


def test_time_in_which_it_did_not_run_is_nobodys_time_out():
    member = Driver("bcd")
    member.hear("c", Gossip((claim("b", State.SUSPECT, 0, "c"),)))

    member.now += 60
    member.swim.wake(member.now)
    member.out = member.swim.take()

    assert [] == member.changes()
    assert 1 == member.swim.health
    assert member.times.suspicion_least_s < die(member)


def test_one_of_the_dead_is_asked_now_and_then():
    member = Driver("bcd")
    member.hear("c", Gossip((claim("b", State.DEAD), claim("d", State.LEFT))))

    asked = []
    while member.now < 100 + 3 * member.times.reconnect_s:
        asked += [one.address for one in member.wake() if isinstance(one, Exchange)]
        member.answer()

    assert {address("b")} == set(asked) - {address("c")}
    assert asked.count(address("b")) in (2, 3, 4)


def die(member, name="b"):
    """Return after how long a suspicion of `name` became a death."""
    start = member.now
    while (name, State.DEAD) not in member.changes():
        member.wake()
    return member.now - start


@pytest.mark.parametrize(
    ("accusers", "share"), [("c", 1.0), ("cc", 1.0), ("cd", 0.369), ("cde", 0.0), ("cdef", 0.0)]
)
def test_a_suspicion_runs_shorter_the_more_confirm_it(accusers, share):
    """Of the way from the shortest to the longest, with two confirmations wanted."""
    suspicions = Suspicions()
    suspicions.start("b", accusers[0], 100.0, least_s=1.0, most_s=6.0, wanted=2)

    for accuser in accusers[1:]:
        suspicions.confirm("b", accuser)

    assert pytest.approx(101 + 5 * share, abs=0.01) == suspicions.next_deadline()


def test_only_so_many_confirmations_are_passed_on():
    """Lifeguard: those that shorten the time-out; more would only be traffic."""
    suspicions = Suspicions()
    suspicions.start("b", "c", 100.0, least_s=1.0, most_s=6.0, wanted=2)

    assert [False, True, True, False] == [suspicions.confirm("b", by) for by in "cdef"]
    assert not suspicions.confirm("nobody", "c")


def test_a_suspicion_that_is_not_refuted_becomes_a_death():
    member = Driver()
    member.hear("c", Gossip((claim("b", State.SUSPECT, 0, "c"),)))

    assert member.times.suspicion_least_s <= die(member) <= member.times.suspicion_most_s


def test_a_refutation_ends_a_suspicion():
    member = Driver()
    member.hear("c", Gossip((claim("b", State.SUSPECT, 0, "c"),)))

    member.hear("b", Gossip((claim("b", incarnation=1),)))

    assert [("b", State.ALIVE)] == member.changes()
    for _ in range(100):
        member.wake()
        assert ("b", State.DEAD) not in member.changes()
        member.answer()


def test_the_dead_accuse_nobody():
    member = Driver()
    member.hear("c", Gossip((claim("b", State.DEAD),)))

    member.hear("b", Gossip((claim("c", State.DEAD),)))

    assert State.ALIVE is member.state("c").state
    # But the accused hears of it: it may be dead to many, after a cut.
    assert [(address("c"), Gossip((claim("c", State.DEAD),)))] == member.sent(Gossip)


def test_who_comes_back_from_the_dead_accuses_nobody_for_a_while():
    member = Driver("bcd")
    member.hear("c", Gossip((claim("b", State.DEAD),)))
    member.hear("b", Gossip((claim("b", incarnation=1),)))

    member.hear("b", Gossip((claim("c", State.DEAD),)))

    assert State.ALIVE is member.state("c").state
    assert (address("c"), Gossip((claim("c", State.DEAD),))) in member.sent(Gossip)

    member.now += member.times.suspicion_most_s
    member.hear("b", Gossip((claim("c", State.DEAD),)))

    assert State.DEAD is member.state("c").state


def test_a_snapshot_kills_nobody_at_once():
    member = Driver()

    member.hear("c", Snapshot((claim("b", State.DEAD),), wants_answer=False))

    assert State.SUSPECT is member.state("b").state


def test_a_snapshot_is_answered_with_all_that_is_known():
    member = Driver()
    member.swim.write("key", b"value")

    member.hear("z", Snapshot((claim("z"),), wants_answer=True))

    ((to, answer),) = member.sent(Snapshot)
    assert address("z") == to
    assert {*map(claim, "abcdz"), Record("a", "key", 1, b"value")} == set(answer.news)
    assert not answer.wants_answer


def test_of_too_many_records_each_snapshot_has_others():
    member = Driver("bcde", records=3000)
    for origin in "abcde":
        many = (Record(origin, str(key), 1, b"") for key in range(3000))
        member.hear("b", Gossip(tuple(many)))

    snapshots = []
    for _ in range(2):
        member.hear("b", Snapshot((), wants_answer=True))
        snapshots.append(member.sent(Snapshot)[0][1].news)

    assert [SNAPSHOT_NEWS] * 2 == [len(news) for news in snapshots]
    assert set(map(claim, "abcde")) < set(snapshots[0])
    assert SNAPSHOT_NEWS < len(set(snapshots[0]) | set(snapshots[1]))


def test_seeds_are_asked_until_somebody_is_met():
    seeds = [address("a"), address("b")]
    swim = Swim("a", address("a"), rng=random.Random(1), seeds=seeds)
    swim.start(0.0)
    assert [address("b")] == [one.address for one in swim.take() if isinstance(one, Exchange)]

    asked, now = 0, 0.0
    while now < 60:
        now = swim.next_wake()
        swim.wake(now)
        asked += sum(isinstance(one, Exchange) for one in swim.take())
    assert 60 / (1.25 * 2) - 1 <= asked <= 60 / (0.75 * 2) + 1


def test_a_member_that_is_not_proved_is_asked_over_tcp_but_not_all_the_time():
    member = Driver()

    def challenge(name):
        member.swim.challenge(member.now, name)
        return [one.address for one in member.swim.take()]

    assert [address("b")] == challenge("b")
    assert [address("c")] == challenge("c")
    assert [] == challenge("b")
    assert [] == challenge("z")
    member.now += 1
    assert [address("b")] == challenge("b")


def test_leaving_tells_all_and_ends():
    member = Driver()

    member.swim.leave(member.now)
    member.out = member.swim.take()

    goodbye = Gossip((claim("a", State.LEFT),))
    assert [(address(name), goodbye) for name in "bcd"] == member.sent(Gossip)
    while Left() not in member.out:
        member.wake()
        assert [] == member.sent(Ping)
    assert member.hear("b", Ping(7, "a"))


def test_who_has_left_and_is_accused_says_that_it_left():
    member = Driver()
    member.swim.leave(member.now)

    member.hear("b", Ping(7, "a", (claim("a", State.DEAD, 3),)))

    assert claim("a", State.LEFT, 4) in member.sent(Ack)[0][1].news


def test_a_member_that_moves_is_reported():
    member = Driver()
    moved = attrs.evolve(claim("b", incarnation=1), address=address("z"))

    member.hear("b", Gossip((moved,)))

    change = MemberChanged("b", address("z"), 1, State.ALIVE, State.ALIVE)
    assert change in member.out


def test_members_are_bounded_and_the_gone_make_room():
    member = Driver("bcd", members=3)

    member.hear("b", Gossip((claim("e"),)))
    assert member.state("e") is None

    member.hear("b", Gossip((claim("c", State.DEAD), claim("e"))))
    assert State.ALIVE is member.state("e").state
    assert member.state("c") is None
    assert Forgotten("c") in member.out


def forgetful():
    """Return a member that has just forgotten b."""
    member = Driver("bcd", forget_s=50.0)
    member.hear("c", Gossip((Record("b", "key", 1, b"x"), claim("b", State.LEFT, 3))))
    while member.state("b") is not None:
        member.wake()
    assert Forgotten("b") in member.out
    member.hear("c", Gossip((claim("c", incarnation=9),)))
    member.now += member.times.suspicion_most_s  # so that it is believed
    return member


def test_the_gone_are_forgotten_in_the_end():
    member = forgetful()

    assert member.now > 50
    assert [] == list(member.swim.records())


def test_who_forgets_later_does_not_bring_them_back():
    """Else members would remind each other for ever."""
    member = forgetful()

    for state in (State.DEAD, State.LEFT):
        member.hear("c", Snapshot((claim("b", state, 3), Record("b", "key", 2, b"y")), False))

    assert member.state("b") is None
    assert [] == list(member.swim.records())


def test_the_forgotten_may_return():
    member = forgetful()

    member.hear("b", Snapshot((claim("b"), Record("b", "key", 1, b"z")), False))

    assert claim("b") == member.state("b")
    assert [Record("b", "key", 1, b"z")] == list(member.swim.records())
    assert MemberChanged("b", address("b"), 0, State.ALIVE, None) in member.out


def test_a_death_that_was_not_forgotten_is_news():
    member = forgetful()

    member.hear("c", Snapshot((claim("b", State.DEAD, 4),), False))

    assert claim("b", State.DEAD, 4) == member.state("b")


def test_records_are_reported_and_newer_ones_hold():
    member = Driver()
    old, new = Record("b", "key", 1, b"x"), Record("b", "key", 2, None)

    assert [RecordChanged(old)] == member.hear("c", Gossip((old,)))
    assert [RecordChanged(new)] == member.hear("c", Gossip((new,)))
    assert [] == member.hear("c", Gossip((old,)))
    assert [new] == list(member.swim.records())


def test_what_it_said_before_its_restart_is_answered_by_what_it_says_now():
    member = Driver()
    member.swim.write("kept", b"new")

    member.hear("b", Gossip((Record("a", "kept", 7, b"old"), Record("a", "gone", 3, b"old"))))

    expected = [Record("a", "kept", 8, b"new"), Record("a", "gone", 4, None)]
    assert expected == list(member.swim.records())
    assert set(expected) < set(member.wake_until(Gossip)[0][1].news)


def test_records_are_bounded():
    member = Driver(records=2)
    for key in ("1", "2"):
        member.swim.write(key, b"")

    with pytest.raises(LocalProtocolError, match="2 records"):
        member.swim.write("3", b"")
    member.hear("b", Gossip(tuple(Record("b", str(key), 1, b"") for key in range(5))))
    assert 2 + 2 == len(list(member.swim.records()))


@pytest.mark.parametrize(
    ("key", "value"), [("", b""), ("k" * (MAX_KEY + 1), b""), ("k", bytes(MAX_VALUE + 1))]
)
def test_a_record_that_fits_into_no_datagram_is_refused(key, value):
    with pytest.raises(LocalProtocolError, match="keys have"):
        Driver().swim.write(key, value)


CLAIMS = st.builds(
    claim,
    st.sampled_from("cd"),
    st.sampled_from(State),
    st.integers(0, 2),
    st.sampled_from("ef"),
)
RECORDS = st.builds(
    Record, st.just("c"), st.just("k"), st.integers(1, 3), st.none() | st.binary(max_size=1)
)


@UNTIMED
@given(st.lists(CLAIMS | RECORDS, min_size=2, max_size=4))
def test_the_order_and_number_of_news_does_not_matter(news):
    """Merging is commutative, associative and idempotent; who accuses is only remembered."""
    results = set()
    for order in itertools.permutations(news):
        member = Driver("b")
        for one in (*order, order[0]):
            member.hear("b", Gossip((one,)))
        claims = {(one.name, one.rank) for one in member.swim.claims()}
        results.add((frozenset(claims), frozenset(member.swim.records())))

    assert 1 == len(results)


def test_much_news_at_once_is_compared_as_a_whole_soon():
    """Datagrams would take seconds to carry it."""
    member = Driver()
    member.swim.write("few", b"")
    start = member.now
    for number in range(300):
        member.swim.write(str(number), b"")

    while not any(isinstance(one, Exchange) for one in member.out):
        member.wake()
        member.answer()

    assert member.now - start <= 3 * member.times.probe_s
    assert 3 * member.times.probe_s < member.times.exchange_s
