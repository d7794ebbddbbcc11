# SPDX-License-Identifier: Apache-2.0
"""Messages of connection sharing as bytes, and what is not one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galelb.errors import RemoteProtocolError
from galelb.flowshare import MAX_BATCH
from galelb.group.share_messages import (
    MAX_MESSAGE,
    Ack,
    Batch,
    Beat,
    Hello,
    Whole,
    check_first,
    decode,
    encode,
)


@pytest.mark.parametrize(
    ("message", "data"),
    [
        (Hello(), "01 01"),
        (Batch("l4_nat", b"flows"), "02 06 6c345f6e6174 666c6f7773"),
        (Batch("x", b""), "02 01 78"),
        (Whole(1500), "03 000005dc"),
        (Beat(258, 7), "04 0000000000000102 00000007"),
        (Ack(258), "05 0000000000000102"),
    ],
)
def test_bytes_of_messages(message, data):
    assert bytes.fromhex(data) == encode(message)
    assert message == decode(bytes.fromhex(data))


def test_the_largest_message():
    largest = encode(Batch("n" * 63, bytes(MAX_BATCH)))

    assert MAX_MESSAGE == len(largest)
    assert MAX_BATCH == len(decode(largest).data)


@pytest.mark.parametrize("age_ms", [1 << 32, 1 << 70])
def test_an_age_beyond_what_fits_is_the_oldest(age_ms):
    assert Beat(1, (1 << 32) - 1) == decode(encode(Beat(1, age_ms)))


@pytest.mark.parametrize(
    "data",
    [
        *("", "00", "06", "ff0000", "01", "0101ff", "03", "03 0000000000", "04 0001"),
        *("04 0000000000000102", "05 000000000000010200", "02", "02 00", "02 0278", "02 01ff00"),
    ],
)
def test_what_is_no_message(data):
    with pytest.raises(RemoteProtocolError, match="connection sharing"):
        decode(bytes.fromhex(data))


def test_a_batch_that_is_too_large():
    with pytest.raises(RemoteProtocolError, match="65537 bytes"):
        decode(b"\x02\x01x" + bytes(MAX_BATCH + 1))


@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda rest: b"\x02" + rest))
def test_garbage_is_read_as_what_it_says_or_refused(data):
    try:
        message = decode(data)
    except RemoteProtocolError:
        return
    assert data == encode(message)


@pytest.mark.parametrize("message", [None, Whole(), Ack(0), Batch("x", b"")])
def test_a_stream_begins_with_a_hello(message):
    with pytest.raises(RemoteProtocolError, match="without a hello"):
        check_first(message)


def test_another_version_is_named():
    check_first(Hello())

    with pytest.raises(RemoteProtocolError, match="version 2, this balancer speaks 1"):
        check_first(Hello(2))
