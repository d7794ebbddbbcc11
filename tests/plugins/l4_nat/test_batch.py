# SPDX-License-Identifier: Apache-2.0
"""Batches of flows: what is written is read, and nothing else is."""

from __future__ import annotations

from ipaddress import ip_address

import attrs
import numpy as np
import pytest
from galelb_plugins.l4_nat.batch import RECORDS, Batch, ServiceName, decode, encode
from galelb_plugins.l4_nat.slices import SliceKey
from hypothesis import example, given
from hypothesis import strategies as st

from galelb.errors import RemoteProtocolError
from galelb.flowshare import MAX_BATCH
from galelb.model import Protocol

TCP = 0x08


def batch(version: int = 4, flows: int = 3, *, slices: int = 1, services: int = 1) -> Batch:
    network = {4: "10.0.{}.{}", 6: "fd00::{}:{}"}[version]
    records = np.zeros(flows, RECORDS[version])
    number = np.arange(flows)
    records["client"][:, 0] = 0x01020304 + number
    records["client_port"] = 1024 + number % 60000
    records["port"] = 1 + number % 65535
    records["service"], records["slice"] = number % services, number % slices
    records["state"] = records["back_state"] = TCP | 1
    records["age"], records["back_age"], records["fresh"] = 7, 9, 3
    return Batch(
        version=version,
        tick_us=1_024_000,
        services=[
            ServiceName(ip_address(network.format(9, 1)), 1 + n, 5, Protocol.TCP)
            for n in range(services)
        ],
        slices=[
            SliceKey(
                node=ip_address(network.format(n // 200, 1 + n % 200)),
                source=ip_address(network.format(250, 1)),
                target_port=8080,
                protocol=Protocol.TCP,
            )
            for n in range(slices)
        ],
        records=records,
    )


def named(one: Batch) -> list[tuple[object, ...]]:
    """Flows with what they name, which has other places in other batches."""
    return [
        (
            one.services[record["service"]],
            one.slices[record["slice"]],
            tuple(record["client"]),
            *(int(record[name]) for name in RECORDS[one.version].names or () if name not in MAPPED),
        )
        for record in one.records
    ]


MAPPED = ("client", "service", "slice")


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("flows", "slices", "services"),
    [(1, 1, 1), (3, 2, 3), (10_000, 40, 5), (5000, 5000, 300)],
)
def test_what_is_written_is_read(version, flows, slices, services) -> None:
    made = batch(version, flows, slices=slices, services=services)

    parts = list(encode(made))
    read = [decode(part) for part in parts]

    assert max(len(part) for part in parts) <= MAX_BATCH
    assert named(made) == [flow for part in read for flow in named(part)]
    assert {(version, 1_024_000)} == {(part.version, part.tick_us) for part in read}


def test_no_flows_make_no_batch() -> None:
    assert [] == list(encode(batch(flows=0)))


def test_flows_of_dnat_name_no_source() -> None:
    made = batch()
    made = attrs.evolve(made, slices=[attrs.evolve(made.slices[0], source=None)])
    made.records["port"] = made.records["client_port"]

    (data,) = encode(made)

    assert [None] == [key.source for key in decode(data).slices]


def with_byte(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


SERVICE, SLICE, FLOW = 16, 40, 76
"""Where these begin in a batch of one each."""


@pytest.mark.parametrize(
    ("at", "value", "what"),
    [
        (0, 2, "version"),
        (1, 5, "family"),
        (2, 2, "services"),
        (4, 9, "slices"),
        (6, 1, "nothing"),
        (11, 0xFF, "tick"),
        (12, 0, "flows"),
        (SERVICE + 5, 1, "vip longer than IPv4"),
        (SERVICE + 19, 0xFF, "vlan"),
        (SERVICE + 20, 1, "protocol of the service"),
        (SERVICE + 22, 1, "rest of the service"),
        (SLICE + 4, 1, "node longer than IPv4"),
        (SLICE + 34, 17, "protocol of the node"),
        (SLICE + 35, 1, "rest of the node"),
        (FLOW + 4, 1, "place of the service"),
        (FLOW + 6, 1, "place of the node"),
        (FLOW + 16, 0x48, "state"),
        (FLOW + 16, 0x01, "state of UDP"),
        (FLOW + 17, 0x01, "state of UDP on the node's side"),
        (FLOW + 18, 4, "fresh"),
        (FLOW + 19, 1, "rest of the flow"),
    ],
)
def test_what_makes_no_sense_is_refused(at, value, what) -> None:
    (data,) = encode(batch(flows=1))

    with pytest.raises(RemoteProtocolError):
        decode(with_byte(data, at, value))


def test_a_flow_without_a_port_is_refused() -> None:
    made = batch(flows=1)
    made.records["port"] = 0
    (data,) = encode(made)

    with pytest.raises(RemoteProtocolError):
        decode(data)


def test_a_batch_that_is_too_long_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match=str(MAX_BATCH + 1)):
        decode(bytes(MAX_BATCH + 1))


@given(st.binary(max_size=400))
@example(b"")
@example(b"\x01\x04" + bytes(14))
def test_garbage_is_refused_or_read(data) -> None:
    try:
        read = decode(data)
    except RemoteProtocolError:
        return
    assert read.version in RECORDS


@given(
    st.sampled_from([4, 6]),
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
    st.integers(0, 30),
)
def test_mutated_batches_are_refused_or_read(version, flows, changes, cut) -> None:
    (data,) = encode(batch(version, flows, slices=flows))
    for at, value in changes:
        data = with_byte(data, at % len(data), value)
    try:
        read = decode(data[: len(data) - cut])
    except RemoteProtocolError:
        return
    again = [flow for part in encode(read) for flow in named(decode(part))]
    assert named(read) == again
