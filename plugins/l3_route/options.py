# SPDX-License-Identifier: Apache-2.0
"""The settings of l3_route: the section `[plugins.l3_route]`."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator

from galelb.config.types import Port
from galelb.forwarder import Options

__all__ = ["L3RouteOptions", "Prefix"]

Prefix = IPv4Network | IPv6Network

_NO_HOSTS: tuple[Prefix, ...] = (
    *map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")),
    *map(IPv6Network, ("::/8", "fe80::/10", "ff00::/8")),
)
"""Nobody's own, of one link or of many hosts: routers and nodes drop what comes from there."""


def _prefix(value: object) -> Prefix:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        prefix = ip_network(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError(
            'must be a network without host bits, for example "10.200.0.0/16" or "fd00:200::/96"'
        ) from None
    for no_host in _NO_HOSTS:
        if prefix.version == no_host.version and prefix.overlaps(no_host):
            raise ValueError(f"packets to nodes cannot come from {no_host}")
    return prefix


def _one_of_each_family(prefixes: tuple[Prefix, ...]) -> tuple[Prefix, ...]:
    if len({prefix.version for prefix in prefixes}) != len(prefixes):
        raise ValueError("give at most one IPv4 and one IPv6 network")
    return prefixes


_Prefix = Annotated[
    Prefix,
    PlainValidator(_prefix, json_schema_input_type=str),
    PlainSerializer(str, return_type=str, when_used="json"),
]


class L3RouteOptions(Options):
    """`[plugins.l3_route]`: how packets travel to the nodes."""

    encap: Literal["ipip", "gue", "none"] = Field(
        default="ipip",
        json_schema_extra={"shared": True},
        description="ipip: in an IP packet to the node; gue: in UDP (Generic UDP Encapsulation,"
        " variant 1); none: as they are, to nodes on a network of the balancer's own",
    )
    gue_port: Port = Field(
        default=6080,
        json_schema_extra={"shared": True},
        description="UDP port of the nodes for gue",
    )
    outer_source: Annotated[tuple[_Prefix, ...], AfterValidator(_one_of_each_family)] = Field(
        default=(),
        description="networks, at most one of each family, that outer packets come from, another"
        " address for every flow, so that nodes spread them over their queues; empty = the private"
        " interface's address",
    )
