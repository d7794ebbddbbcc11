# SPDX-License-Identifier: Apache-2.0
"""What waits for a peer is bounded, and how far the peer is behind is known."""

from galelb.flowshare import MAX_BATCH
from galelb.group.share_messages import Batch, Beat, Whole
from galelb.group.share_outbox import MAX_QUEUE, Outbox


def current(now=0.0):
    """Return the outbox of a peer that has been sent everything at `now`."""
    outbox = Outbox(now)
    outbox.begin(now)
    return outbox


def drain(outbox, now):
    return list(iter(lambda: outbox.take(now), None))


def test_changes_wait_only_behind_everything():
    outbox = Outbox(0)

    assert outbox.behind
    assert outbox.put([("nat", b"early")], 1, 0.2)
    assert [] == drain(outbox, 0.2)

    outbox.begin(0.3)
    outbox.put([("nat", b"late")], 2, 0.4)
    assert Whole(200) == outbox.whole(0.5)
    assert [Batch("nat", b"late"), Beat(2, 100)] == drain(outbox, 0.5)


def test_the_lag_is_that_of_the_oldest_beat_without_an_answer():
    outbox = current()
    for beat in (1, 2, 3):
        outbox.put([], beat, beat)
    drain(outbox, 4)

    assert 4 == outbox.lag(4)
    outbox.acknowledged(2)
    assert 2 == outbox.lag(4)
    outbox.acknowledged(2)
    outbox.acknowledged(3)
    assert 1 == outbox.lag(4)


def test_a_queue_that_overflows_is_dropped_and_all_is_sent_later():
    outbox = current()
    batches = [("nat", bytes(MAX_BATCH))] * (MAX_QUEUE // MAX_BATCH)

    assert outbox.put(batches, 1, 0.2)
    assert not outbox.put([("nat", b"x")], 2, 0.4)

    assert outbox.behind
    assert 1.4 == outbox.not_before
    assert [] == drain(outbox, 0.4)
    assert 1 == outbox.overflows
    assert 0.4 == outbox.lag(0.4), "it has become no more current by that"


def test_what_was_taken_makes_room():
    outbox = current()
    batches = [("nat", bytes(MAX_BATCH))] * (MAX_QUEUE // MAX_BATCH)

    for beat in range(3):
        assert outbox.put(batches, beat, beat)
        assert len(batches) + 1 == len(drain(outbox, beat))


def test_beats_alone_overflow_too():
    outbox = current()

    assert not all(outbox.put([], beat, 0) for beat in range(1, 1026))


def test_pauses_grow_until_the_peer_keeps_up():
    outbox = current()
    pauses = []
    for _ in range(5):
        outbox.postpone(0)
        pauses.append(outbox.not_before)

    assert [1, 2, 4, 8, 8] == pauses
    outbox.begin(0)
    assert outbox.take(0) is None
    outbox.postpone(0)
    assert 1 == outbox.not_before


def test_an_answer_from_before_a_new_transfer_says_nothing():
    outbox = current()
    outbox.put([], 1, 1.0)
    outbox.restart()
    outbox.begin(2.0)
    outbox.acknowledged(1)

    assert 3.0 == outbox.lag(3.0)
