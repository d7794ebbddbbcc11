# SPDX-License-Identifier: Apache-2.0
"""Messages, status and time-outs as they lie on the wire."""

import re
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

import galelb.grpc
from galelb.grpc import health_pb2
from galelb.grpc.framing import (
    CallError,
    MessageReader,
    StatusCode,
    encode_message,
    header_dict,
    parse_timeout,
    status_from,
    trailers,
)
from galelb.grpc.limits import Budget


@given(messages=st.lists(st.binary(max_size=300), max_size=20), data=st.data())
def test_messages_survive_any_cut(messages, data):
    stream = b"".join(encode_message(message) for message in messages)
    reader = MessageReader()
    read = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        read += reader.feed(stream[:size])
        stream = stream[size:]

    assert messages == read
    assert not reader.unfinished


def test_an_unfinished_message_is_known():
    reader = MessageReader()

    assert [] == reader.feed(b"\0\0")
    assert reader.unfinished


@pytest.mark.parametrize(
    ("prefix", "code"),
    [
        (b"\0\0\1\0\1", StatusCode.RESOURCE_EXHAUSTED),
        (b"\0\xff\xff\xff\xff", StatusCode.RESOURCE_EXHAUSTED),
        (b"\1\0\0\0\1", StatusCode.UNIMPLEMENTED),
        (b"\xff\0\0\0\0", StatusCode.UNIMPLEMENTED),
    ],
)
def test_too_long_and_compressed_messages_are_refused_by_their_prefix(prefix, code):
    with pytest.raises(CallError) as caught:
        MessageReader(max_bytes=65536).feed(prefix)

    assert code == caught.value.code


def test_a_message_of_exactly_the_limit_is_fine():
    payload = b"x" * 65536

    assert [payload] == MessageReader(max_bytes=65536).feed(encode_message(payload))


@given(text=st.text(max_size=200))
def test_a_status_survives_the_wire(text):
    error = status_from(header_dict(trailers(StatusCode.NOT_FOUND, text)))

    assert (StatusCode.NOT_FOUND, text) == (error.code, error.message)


def test_ok_is_no_error():
    assert status_from(header_dict(trailers(StatusCode.OK))) is None


@pytest.mark.parametrize("status", [b"", b"x", b"99", b"-1"])
def test_a_status_that_is_none_is_unknown(status):
    assert StatusCode.UNKNOWN == status_from({b"grpc-status": status}).code


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        (b"1S", 1.0),
        (b"250m", 0.25),
        (b"2M", 120.0),
        (b"1H", 3600.0),
        (b"5u", 5e-6),
        (b"7n", 7e-9),
    ],
)
def test_timeouts(text, seconds):
    assert seconds == pytest.approx(parse_timeout(text))


@pytest.mark.parametrize("text", [b"", b"S", b"1", b"123456789S", b"-1S", b"1s", b"1.5S"])
def test_bad_timeouts_are_refused(text):
    with pytest.raises(CallError, match="bad grpc-timeout"):
        parse_timeout(text)


def test_a_budget_allows_ten_seconds_at_once_and_its_rate_after():
    budget = Budget(2.0)

    at_once = sum(budget.spend(0.0) for _ in range(100))
    later = sum(budget.spend(3.0) for _ in range(100))

    assert (20, 6) == (at_once, later)


def test_the_generated_messages_are_those_of_the_proto_file():
    text = (Path(galelb.grpc.__file__).parent / "health.proto").read_text()
    written = {}
    for name, body in re.findall(r"message (\w+) \{(.*?)\n\}", text, re.DOTALL):
        fields = re.findall(r"^\s*(?:optional |repeated )?\w+ (\w+) = (\d+);", body, re.MULTILINE)
        written[name] = {field: int(number) for field, number in fields}

    generated = {
        name: {field.name: field.number for field in message.fields}
        for name, message in health_pb2.DESCRIPTOR.message_types_by_name.items()
    }

    assert written == generated


def test_the_wire_format_is_that_of_the_original():
    original = health_pb2.HealthStatus(service="web", status=1, message="why")
    config = health_pb2.ConfigResponse(
        checks_before_routing=3,
        health_check_timeout=5,
        black_list_after_fails=-1,
        black_list_expiry=7,
    )

    assert b"\x0a\x03web\x10\x01\x1a\x03why" == original.SerializeToString()
    assert (
        b"\x08\x03\x10\x05\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x20\x07"
        == config.SerializeToString()
    )
