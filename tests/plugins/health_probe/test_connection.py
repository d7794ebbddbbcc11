# SPDX-License-Identifier: Apache-2.0
"""The small TCP, segment by segment."""

import pytest
from galelb_plugins.health_probe.connection import MOST_UNREAD, Connection, State
from galelb_plugins.health_probe.segments import Flag, Segment

FIRST = 0xFFFFFFFF  # the numbers of both sides wrap around
THEIRS = 0xFFFFFFFE


def opened():
    connection = Connection(FIRST)
    assert connection.take(Segment(Flag.SYN | Flag.ACK, THEIRS, 0)) is None
    return connection


def data(payload, seq=THEIRS + 1, *, flags=Flag.ACK, ack=0):
    return Segment(flags, seq % (1 << 32), ack, payload)


def test_begins_with_a_syn():
    connection = Connection(FIRST)

    assert Segment(Flag.SYN, FIRST) == connection.again()
    assert State.OPENING is connection.state


def test_is_open_once_accepted():
    connection = opened()

    assert State.OPEN is connection.state
    assert connection.acknowledged


def test_is_refused_by_a_reset():
    connection = Connection(FIRST)
    connection.take(Segment(Flag.RST | Flag.ACK, 0, 0))

    assert State.REFUSED is connection.state
    assert connection.close() is None


@pytest.mark.parametrize("flags", [Flag.SYN | Flag.ACK, Flag.RST | Flag.ACK, Flag.ACK])
def test_segments_of_an_earlier_connection_are_ignored(flags):
    connection = Connection(FIRST)
    connection.take(Segment(flags, THEIRS, 77))

    assert State.OPENING is connection.state


def test_data_is_acknowledged_by_the_node():
    connection = opened()
    sent = connection.send(b"hello")
    before = connection.acknowledged

    connection.take(data(b"", ack=5))

    assert Segment(Flag.ACK | Flag.PSH, 0, 0xFFFFFFFF, b"hello") == sent
    assert not before
    assert connection.acknowledged


def test_an_old_acknowledgement_is_none():
    connection = opened()
    connection.send(b"hello")
    connection.take(data(b"", ack=0))

    assert not connection.acknowledged
    assert b"hello" == connection.again().payload


def test_data_arrives_in_order():
    connection = opened()

    answers = [connection.take(data(b"ab")), connection.take(data(b"cd", THEIRS + 3))]

    assert [1, 3] == [answer.ack for answer in answers]
    assert b"abcd" == connection.read(100)


def test_data_out_of_order_is_asked_for_again():
    connection = opened()

    answer = connection.take(data(b"cd", THEIRS + 3))

    assert THEIRS + 1 == answer.ack
    assert b"" == connection.read(100)


def test_repeated_data_is_taken_once():
    connection = opened()
    connection.take(data(b"ab"))

    answer = connection.take(data(b"abcd"))

    assert (3, b"abcd") == (answer.ack, connection.read(100))
    assert 3 == connection.take(data(b"abcd")).ack
    assert b"" == connection.read(100)


def test_the_end_is_noted_after_the_data():
    connection = opened()

    answer = connection.take(data(b"ab", flags=Flag.ACK | Flag.FIN))

    assert (2, True, b"ab") == (answer.ack, connection.ended, connection.read(100))


def test_an_end_that_comes_too_early_waits():
    connection = opened()
    connection.take(data(b"cd", THEIRS + 3, flags=Flag.ACK | Flag.FIN))

    assert not connection.ended


def test_what_nobody_reads_is_bounded():
    connection = opened()
    at = THEIRS + 1
    for _ in range(100):
        connection.take(data(b"x" * 1000, at))
        at += 1000

    assert len(connection.read(10**6)) <= MOST_UNREAD


def test_a_reset_ends_it():
    connection = opened()
    connection.take(data(b"", flags=Flag.RST))

    assert State.RESET is connection.state
    assert connection.close() is None


def test_a_reset_with_a_guessed_number_does_not():
    connection = opened()
    connection.take(data(b"", THEIRS + 50, flags=Flag.RST))

    assert State.OPEN is connection.state


def test_the_end_is_a_reset_that_the_node_takes():
    """Its number is the next one that the node expects; no flag makes the node doubt it."""
    connection = opened()
    connection.send(b"hello")

    assert Segment(Flag.RST, 5) == connection.close()
