# SPDX-License-Identifier: Apache-2.0
"""The addresses of the benchmark `forward`, and the frames of its flows."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from typing import Any

from galelb.testing.packets import frame

__all__ = [
    "BALANCER",
    "CLIENTS",
    "CLIENT_MAC",
    "GATEWAY",
    "NODES",
    "NODE_NETWORK",
    "PORT",
    "PRIVATE_MAC",
    "PUBLIC_MAC",
    "SIZE",
    "VIP",
    "flow_of",
    "frame_of",
    "mac",
    "node_numbers",
    "raw",
]

VIP, PORT, BALANCER = "203.0.113.10", 80, "10.0.0.1"
GATEWAY, CLIENTS = "203.0.113.2", "100.64.0.0"
NODE_NETWORK = "10.0.0.0"
NODES = tuple(str(IPv4Address(NODE_NETWORK) + 11 + number) for number in range(10))
CLIENT_MAC, PUBLIC_MAC, PRIVATE_MAC = (f"02:00:00:00:00:{end}" for end in ("c1", "1b", "1c"))
SIZE = 60
_PAYLOAD = 18
_CLIENT_PORTS = 16384


def node_numbers() -> set[int]:
    """Return the last bytes of the nodes' addresses."""
    return {IPv4Address(node).packed[3] for node in NODES}


def mac(node: str) -> str:
    """Return the MAC address of a node, which ends like its address."""
    return f"02:00:00:00:00:{IPv4Address(node).packed[3]:02x}"


def raw(address: str) -> int:
    """Return an address as the number that C has of it in network order."""
    return int.from_bytes(IPv4Address(address).packed, "little")


def frame_of(number: int) -> bytes:
    """Return the frame of a flow, checksums and all."""
    address = IPv4Address(CLIENTS) + number // _CLIENT_PORTS
    return frame(
        str(address),
        VIP,
        1024 + number % _CLIENT_PORTS,
        PORT,
        protocol="udp",
        payload=struct.pack("<I", number).ljust(_PAYLOAD, b"x"),
        src_mac=CLIENT_MAC,
        dst_mac=PUBLIC_MAC,
    )


def flow_of(number: int) -> dict[str, Any]:
    """Return what traffic.bpf.c writes into the frame for a flow; scapy computed the sums."""
    made = frame_of(number)
    ip_check, saddr = struct.unpack_from("<HI", made, 24)
    (sport,) = struct.unpack_from("<H", made, 34)
    udp_check, low, high = struct.unpack_from("<HHH", made, 40)
    return {
        "saddr": saddr,
        "sport": sport,
        "ip_check": ip_check,
        "udp_check": udp_check,
        "number": [low, high],
    }
