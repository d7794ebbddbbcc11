# SPDX-License-Identifier: Apache-2.0
"""The wire format: what goes out comes back, and anything else is dropped with a reason."""

from ipaddress import IPv4Address, IPv6Address

import attrs
import pytest
from galelb_plugins.sync_gossip.messages import (
    Ack,
    Claim,
    Gossip,
    Nack,
    Ping,
    PingRequest,
    Record,
    Snapshot,
    State,
)
from galelb_plugins.sync_gossip.wire import (
    MAX_KEY,
    MAX_NAME,
    MAX_PLAIN,
    MAX_SNAPSHOT,
    MAX_VALUE,
    NEWS_BUDGET,
    SNAPSHOT_NEWS,
    Unreadable,
    decode,
    encode,
    size_of,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
REASONS = {
    "malformed",
    "oversized",
    "trailing_bytes",
    "truncated",
    "unknown_message",
    "unknown_version",
}


def texts(most, least=1):
    return st.text(max_size=most).filter(lambda one: least <= len(one.encode()) <= most)


NAMES = texts(MAX_NAME)
NUMBERS = st.integers(0, (1 << 32) - 1)
VERSIONS = st.integers(0, (1 << 63) - 1)
ADDRESSES = st.tuples(st.ip_addresses(), st.integers(0, 65535))
CLAIMS = st.builds(
    Claim, NAMES, ADDRESSES, VERSIONS, st.sampled_from(State), texts(MAX_NAME, least=0)
)
RECORDS = st.builds(
    Record, NAMES, texts(MAX_KEY), VERSIONS, st.none() | st.binary(max_size=MAX_VALUE)
)
NEWS = st.lists(CLAIMS | RECORDS, max_size=5).map(tuple)
MESSAGES = st.one_of(
    st.builds(Ping, NUMBERS, NAMES, NEWS),
    st.builds(Ack, NUMBERS, NEWS),
    st.builds(Nack, NUMBERS),
    st.builds(PingRequest, NUMBERS, NAMES, ADDRESSES, NEWS),
    st.builds(Gossip, NEWS),
    st.builds(Snapshot, NEWS, st.booleans()),
)


def read(data, limit=MAX_SNAPSHOT):
    """Return the message, or the reason why it is none."""
    try:
        return decode(data, limit)
    except Unreadable as error:
        return error.reason


@UNTIMED
@given(MESSAGES)
def test_a_message_comes_back_as_it_was(message):
    assert message == decode(encode(message), MAX_SNAPSHOT)


@UNTIMED
@given(CLAIMS | RECORDS)
def test_the_size_of_news_is_what_it_takes(news):
    assert len(encode(Gossip((news,)))) - len(encode(Gossip(()))) == size_of(news)


@UNTIMED
@given(MESSAGES)
def test_every_truncation_is_dropped(message):
    data = encode(message)

    assert {"truncated"} == {read(data[:length]) for length in range(len(data))}


@UNTIMED
@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda data: b"\x01\x05" + data))
def test_arbitrary_bytes_are_a_message_or_dropped_with_a_reason(data):
    result = read(data)

    # One message has one form only.
    assert result in REASONS or data == encode(result)


@UNTIMED
@given(MESSAGES, st.data())
def test_a_changed_byte_is_another_message_or_dropped(message, data):
    wire = bytearray(encode(message))
    at = data.draw(st.integers(0, len(wire) - 1))
    wire[at] ^= data.draw(st.integers(1, 255))

    result = read(bytes(wire))

    assert result in REASONS or message != result


CLAIM = Claim("m", (IPv4Address("10.0.0.1"), 7946), 3, State.SUSPECT, "n")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (b"\x00\x05\0\0\0\0", "unknown_version"),
        (b"\x02\x05\0\0\0\0", "unknown_version"),
        (b"\x01\x00\0\0\0\0", "unknown_message"),
        (b"\x01\x07\0\0\0\0", "unknown_message"),
        (b"\x01\x05\0\0\0\0\0", "trailing_bytes"),
        (b"\x01\x05\xff\xff\xff\xff", "malformed"),
        (b"\x01\x05\0\0\0\x02" + encode(Gossip((CLAIM,)))[6:], "truncated"),
        (b"\x01\x06\x02\0\0\0\0", "malformed"),
        (b"\x01\x01\0\0\0\x01\x00\0\0\0\0", "malformed"),
        (b"\x01\x01\0\0\0\x01\x02\xff\xfe\0\0\0\0", "malformed"),
        (b"\x01\x05\0\0\0\x01\x04", "malformed"),
        (b"\x01\x05" + bytes(MAX_PLAIN), "oversized"),
    ],
)
def test_what_is_no_message_is_dropped_for_this_reason(data, reason):
    assert reason == read(data, MAX_PLAIN)


@pytest.mark.parametrize("news", [CLAIM, Record("m", "k", 1, None)])
def test_numbers_that_leave_no_room_for_a_refutation_are_dropped(news):
    field = "incarnation" if isinstance(news, Claim) else "version"
    fine = attrs.evolve(news, **{field: (1 << 63) - 1})
    above = attrs.evolve(news, **{field: 1 << 63})

    assert Gossip((fine,)) == decode(encode(Gossip((fine,))))
    with pytest.raises(Unreadable, match="malformed"):
        decode(encode(Gossip((above,))))


def test_the_longest_messages_fit_into_a_datagram():
    name = "ü" * 31 + "x"
    address = (IPv6Address("fd00::1"), 65535)
    value = Record(name, "k" * MAX_KEY, 1, bytes(MAX_VALUE))
    assert size_of(value) <= NEWS_BUDGET

    for message in (PingRequest(1, name, address), Ping(1, name), Ack(1), Gossip(())):
        assert len(encode(message)) + NEWS_BUDGET <= MAX_PLAIN


def test_the_longest_snapshot_can_be_read():
    longest = Record("n" * MAX_NAME, "k" * MAX_KEY, 1, bytes(MAX_VALUE))
    snapshot = Snapshot((longest,) * SNAPSHOT_NEWS, wants_answer=True)

    assert snapshot == decode(encode(snapshot), MAX_SNAPSHOT)


def test_the_format_is_fixed():
    """Balancers of two versions of galelb may be in one group."""
    news = (CLAIM, Record("m", "k", 5, b"v"), Record("m", "k", 6, None))

    assert (
        "0101"
        "00000007"
        "026d32"
        "00000003"
        "010000000000000003" "016d" "016e" "040a0000011f0a"
        "100000000000000005" "016d" "016b" "000176"
        "300000000000000006" "016d" "016b"
    ) == encode(Ping(7, "m2", news)).hex()  # fmt: skip
