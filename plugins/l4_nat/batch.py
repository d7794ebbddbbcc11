# SPDX-License-Identifier: Apache-2.0
"""Batches: how balancers tell each other flows. No I/O here.

A batch is at most `galelb.flowshare.MAX_BATCH` bytes; numbers are little-endian, addresses as in
packets (IPv4 in the first 4 of 16 bytes, the rest 0).

    head      16   version 1 (1), family 4 or 6 (1), services (2), slices (2), 0 (2),
                   length of a tick in microseconds (4), flows (4)
    services  24   VIP (16), port (2), VLAN (2), protocol 6 or 17 (1), 0 (3)
    slices    36   node (16), source address (16; dnat: 0), target port (2), protocol (1), 0 (1)
    flows     20   IPv4, 32 in IPv6: client (4 or 16), service (2), slice (2), client's port (2),
                   source port (2), age (2), age of the node's side (2), state (1), state of the
                   node's side (1), fresh (1), 0 (1)

A flow names its service and its slice by their places in the batch. Ages are ticks since the
side's last packet; states are bits of tables.h, of those only SEEN, FIN, RST, TCP and SYN. `fresh`:
1 = the sender saw packets of the client since it last told of the flow, 2 = of the node.
Another version is refused as a whole: what a field means never changes without a new version.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address

import attrs
import numpy as np
import numpy.typing as npt
from galelb_plugins.l4_nat.entries import FIN, RST, SEEN, SYN, TCP
from galelb_plugins.l4_nat.slices import SliceKey

from galelb.errors import RemoteProtocolError
from galelb.flowshare import MAX_BATCH
from galelb.model import IPAddress, Protocol

__all__ = ["RECORDS", "SHARED_STATE", "Batch", "Records", "ServiceName", "decode", "encode"]

VERSION = 1
SHARED_STATE = SEEN | FIN | RST | TCP | SYN
"""State bits that balancers tell each other; the others are about one's own view of the node."""

_HEAD = struct.Struct("<BBHHHII")
_SERVICE = struct.Struct("<16sHHB3x")
_SLICE = struct.Struct("<16s16sHBx")
_NOWHERE = bytes(16)
_WORDS = {4: 1, 6: 4}

Records = npt.NDArray[np.void]


def _record(words: int) -> np.dtype[np.void]:
    numbers = ("service", "slice", "client_port", "port", "age", "back_age")
    octets = ("state", "back_state", "fresh", "pad")
    return np.dtype(
        [
            ("client", np.uint32, (words,)),
            *((name, "<u2") for name in numbers),
            *((name, np.uint8) for name in octets),
        ]
    )


RECORDS = {version: _record(words) for version, words in _WORDS.items()}
"""The flows of a batch, by address family; `client` holds words as they lie in packets."""


@attrs.frozen
class ServiceName:
    """What a service is to clients."""

    vip: IPAddress
    port: int
    vlan: int
    protocol: Protocol


@attrs.frozen(kw_only=True)
class Batch:
    """Flows of one family, their services and slices by place."""

    version: int
    tick_us: int
    services: Sequence[ServiceName]
    slices: Sequence[SliceKey]
    records: Records

    def part(self, which: npt.NDArray[np.bool_]) -> Batch:
        """Return some of the flows."""
        return attrs.evolve(self, records=self.records[which])


def encode(batch: Batch) -> Iterator[bytes]:
    """Iterate over the bytes of as many batches as these flows take."""
    size = RECORDS[batch.version].itemsize
    room = MAX_BATCH - _HEAD.size
    step = room * 9 // 10 // size  # the rest is for names
    left = [batch.records[at : at + step] for at in range(0, len(batch.records), step)][::-1]
    while left:
        records = left.pop()
        services, by_service = np.unique(records["service"], return_inverse=True)
        slices, by_slice = np.unique(records["slice"], return_inverse=True)
        names = len(services) * _SERVICE.size + len(slices) * _SLICE.size
        if names + len(records) * size > room:
            half = len(records) // 2
            left += [records[half:], records[:half]]
        else:
            numbered = records.copy()
            numbered["service"], numbered["slice"] = by_service, by_slice
            yield b"".join(
                [
                    _HEAD.pack(
                        VERSION,
                        batch.version,
                        len(services),
                        len(slices),
                        0,
                        batch.tick_us,
                        len(records),
                    ),
                    *(_pack_service(batch.services[n]) for n in services.tolist()),
                    *(_pack_slice(batch.slices[n]) for n in slices.tolist()),
                    numbered.tobytes(),
                ]
            )


def _pack_service(name: ServiceName) -> bytes:
    return _SERVICE.pack(_packed(name.vip), name.port, name.vlan, name.protocol)


def _pack_slice(key: SliceKey) -> bytes:
    source = _NOWHERE if key.source is None else _packed(key.source)
    return _SLICE.pack(_packed(key.node), source, key.target_port, key.protocol)


def _packed(address: IPAddress) -> bytes:
    return address.packed.ljust(16, b"\0")


def decode(data: bytes) -> Batch:
    """Return the flows of a batch. Raises RemoteProtocolError for what `encode` never makes."""
    if not _HEAD.size <= len(data) <= MAX_BATCH:
        raise RemoteProtocolError(f"a batch of flows has {len(data)} bytes")
    number, version, services, slices, zero, tick_us, flows = _HEAD.unpack_from(data)
    if number != VERSION:
        raise RemoteProtocolError(f"a batch of flows has version {number}; {VERSION} is known")
    if version not in RECORDS or zero or not 1 <= tick_us <= 1 << 31:
        raise RemoteProtocolError("the head of a batch of flows makes no sense")
    at_slices = _HEAD.size + services * _SERVICE.size
    at_flows = at_slices + slices * _SLICE.size
    if len(data) != at_flows + flows * RECORDS[version].itemsize:
        raise RemoteProtocolError("a batch of flows is longer or shorter than it says")
    batch = Batch(
        version=version,
        tick_us=tick_us,
        services=[
            _read_service(data, at, version) for at in range(_HEAD.size, at_slices, _SERVICE.size)
        ],
        slices=[_read_slice(data, at, version) for at in range(at_slices, at_flows, _SLICE.size)],
        records=np.frombuffer(data, RECORDS[version], count=flows, offset=at_flows),
    )
    _check(batch)
    return batch


def _read_service(data: bytes, at: int, version: int) -> ServiceName:
    vip, port, vlan, protocol = _SERVICE.unpack_from(data, at)
    if not port or vlan > 4094 or any(data[at + 21 : at + 24]):
        raise RemoteProtocolError("a batch of flows names an impossible service")
    return ServiceName(_address(vip, version), port, vlan, _protocol(protocol))


def _read_slice(data: bytes, at: int, version: int) -> SliceKey:
    node, source, target_port, protocol = _SLICE.unpack_from(data, at)
    if not target_port or node == _NOWHERE or data[at + 35]:
        raise RemoteProtocolError("a batch of flows names an impossible node")
    return SliceKey(
        node=_address(node, version),
        source=None if source == _NOWHERE else _address(source, version),
        target_port=target_port,
        protocol=_protocol(protocol),
    )


def _address(packed: bytes, version: int) -> IPAddress:
    if version == 6:
        return IPv6Address(packed)
    if any(packed[4:]):
        raise RemoteProtocolError("a batch of flows names an IPv4 address of 16 bytes")
    return IPv4Address(packed[:4])


def _protocol(number: int) -> Protocol:
    try:
        return Protocol(number)
    except ValueError:
        raise RemoteProtocolError(f"a batch of flows names protocol {number}") from None


def _check(batch: Batch) -> None:
    """Refuse flows that contradict themselves or what they name."""
    records = batch.records
    if not len(records):
        return
    if (records["service"] >= len(batch.services)).any() or (
        records["slice"] >= len(batch.slices)
    ).any():
        raise RemoteProtocolError("a flow names a service or a node that is not in its batch")
    by_service = np.array([name.protocol for name in batch.services])[records["service"]]
    by_slice = np.array([key.protocol for key in batch.slices])[records["slice"]]
    client_keeps = np.array([key.source is None for key in batch.slices])[records["slice"]]
    tcp = (records["state"] & TCP) != 0
    wrong = (
        (by_service != by_slice)
        | (tcp != (by_service == Protocol.TCP))
        | ((records["back_state"] & TCP != 0) != tcp)
        | ((records["state"] | records["back_state"]) & ~np.uint8(SHARED_STATE) != 0)
        | (records["fresh"] > 3)
        | (records["pad"] != 0)
        | (records["port"] == 0)
        | (client_keeps & (records["port"] != records["client_port"]))
    )
    if wrong.any():
        raise RemoteProtocolError("a batch of flows has impossible ones")
