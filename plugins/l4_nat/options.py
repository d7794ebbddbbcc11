# SPDX-License-Identifier: Apache-2.0
"""The settings of l4_nat: the section `[plugins.l4_nat]`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from galelb.config.types import Address
from galelb.durations import Duration
from galelb.forwarder import Options
from galelb.model import IPAddress

__all__ = ["MAX_TIMEOUT_S", "L4NatOptions", "PortRange"]

HOURS = 3600.0
MAX_TIMEOUT_S = 8 * HOURS
"""Ages are 16 bits of about a second each and compared modulo: half the range, with room."""

PortRange = tuple[int, int]
"""First and last port, both included."""


def _parse_ports(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d{1,5})\s*-\s*(\d{1,5})\s*", value)
    if match is None:
        raise ValueError(
            f'"{value}" is not a port range; write "first-last", for example "1024-32767"'
        )
    return int(match[1]), int(match[2])


def _check_ports(ports: PortRange | None) -> PortRange | None:
    if ports is None:
        return None
    first, last = ports
    if not 1 <= first <= last <= 65535:
        raise ValueError(f'"{first}-{last}" is not a port range; 1 <= first <= last <= 65535')
    return ports


def _check_addresses(addresses: tuple[IPAddress, ...]) -> tuple[IPAddress, ...]:
    if len(set(addresses)) != len(addresses):
        raise ValueError("an address is listed twice")
    for address in addresses:
        if address.is_link_local or address.is_loopback:
            raise ValueError(f"{address} cannot be the source of packets to nodes")
    return addresses


def _check_timeout(seconds: float) -> float:
    if not 1.0 <= seconds <= MAX_TIMEOUT_S:
        raise ValueError('must be from "1s" to "8h"')
    return seconds


Timeout = Annotated[Duration, AfterValidator(_check_timeout)]
Ports = Annotated[PortRange | None, BeforeValidator(_parse_ports), AfterValidator(_check_ports)]
Addresses = Annotated[tuple[Address, ...], AfterValidator(_check_addresses)]


class L4NatOptions(Options):
    """`[plugins.l4_nat]`: mode, addresses and ports, sizes, timeouts."""

    mode: Literal["full_nat", "dnat"] = Field(
        default="full_nat",
        description="full_nat: nodes see the balancer and need no set-up; dnat: nodes see the"
        " client and must route back through the balancer",
    )
    source_addresses: Addresses = Field(
        default=(),
        description="addresses that packets to nodes come from in full_nat; empty = the private"
        " interface's address of each family",
    )
    ports: Ports = Field(
        default=None,
        description='"first-last": source ports towards nodes; unset = the larger part outside'
        " ip_local_port_range where the kernel uses the address too, else 1024-65535",
    )
    max_flows: int = Field(
        default=262144,
        ge=1024,
        le=1 << 24,
        description="flows per address family; the tables have twice as many entries",
    )
    max_slices: int = Field(
        default=64,
        ge=1,
        le=16384,
        description="per address family: combinations of node, target port, protocol and source"
        " address that have all source ports, about 1 MB each (IPv4) or 2 MB (IPv6); with more of"
        " them each has fewer ports, down to a sixteenth",
    )
    tcp_established_timeout: Timeout = Field(
        default=2 * HOURS, description="an idle TCP connection is forgotten after this; max 8h"
    )
    tcp_syn_timeout: Timeout = Field(
        default=5.0, description="a TCP connection that never got an answer may go after this"
    )
    tcp_fin_timeout: Timeout = Field(
        default=60.0, description="a TCP connection with FIN seen is forgotten after this"
    )
    port_quarantine: Timeout = Field(
        default=60.0,
        description="a closed connection's port is not used again for this long; else it meets"
        " TIME_WAIT on the node",
    )
    udp_timeout: Timeout = Field(default=120.0, description="an idle UDP flow with answers")
    udp_unreplied_timeout: Timeout = Field(default=30.0, description="a UDP flow without answer")
    down_node_grace: Timeout = Field(
        default=10.0,
        description="how long flows of a down node go on without an answer before they are reset",
    )
