# SPDX-License-Identifier: Apache-2.0
"""What a lab consists of, as asked for on the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from galelb.errors import ConfigError

__all__ = [
    "ANNOUNCERS",
    "DEFAULT_PLUGIN",
    "FAMILIES",
    "MAX_BALANCERS",
    "MAX_HOSTS_PER_ROLE",
    "MAX_WEIGHT",
    "TRANSPORTS",
    "LabSpec",
]

DEFAULT_PLUGIN = "l4_nat"

FAMILIES = ("ipv4", "ipv6")
TRANSPORTS = ("gossip", "etcd")
ANNOUNCERS = ("arp", "bgp")
MAX_WEIGHT = 1000

MAX_HOSTS_PER_ROLE = 50
"""Bounds the lab to what one machine and the address plan can hold."""

MAX_BALANCERS = 20
"""Each takes three addresses: its own, a VIP and one that nodes see."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_PREFIX = re.compile(r"gale[0-9a-f]{4}")


def _pairs(pairs: Iterable[Iterable[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, value in pairs)


def _integers(numbers: Iterable[int]) -> tuple[int, ...]:
    return tuple(numbers)


@attrs.frozen(kw_only=True)
class LabSpec:
    """One lab: how many hosts, which plugin, which address families.

    Raises ConfigError with every problem when built from impossible values.
    """

    name: str
    prefix: str
    """`gale` and four hex digits; starts the name of every namespace of this lab."""
    plugin: str = DEFAULT_PLUGIN
    balancers: int = 1
    nodes: int = 3
    clients: int = 1
    weights: tuple[int, ...] = attrs.field(default=(), converter=_integers)
    ipv4: bool = True
    ipv6: bool = False
    node_family: str = ""
    """ipv4 or ipv6: of the private network, when it is another one than the clients'."""
    udp: bool = False
    one_armed: bool = False
    direct: bool = False
    """Nodes answer clients themselves, past the balancers: what some forwarders need."""
    any_family: bool = False
    """The forwarder reaches nodes of another family than the VIP's."""
    stateless: bool = False
    """The forwarder remembers no flows: a new table may move some of them."""
    translates: bool = False
    """The forwarder wants addresses of each balancer's own that nodes see."""
    options: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_pairs)
    """Options of the plugin as (key, TOML value)."""
    transport: str = "gossip"
    """By what the balancers of a group talk: gossip or etcd."""
    announce: str = "arp"
    """Who tells the network where VIPs are: arp, or bgp to a router."""

    def __attrs_post_init__(self) -> None:
        """Refuse impossible values, all of them at once."""
        if problems := list(_problems(self)):
            raise ConfigError(problems)

    def weight(self, index: int) -> int:
        """Return the weight of the node with this index (from 0); 1 when none is given."""
        return self.weights[index] if self.weights else 1

    @property
    def is_group(self) -> bool:
        """Whether the balancers share VIPs, health and flows."""
        return self.balancers > 1

    @property
    def has_router(self) -> bool:
        """Whether a router stands between clients and balancers."""
        return self.is_group and self.announce == "bgp"

    @property
    def is_dnat(self) -> bool:
        """Whether nodes see clients' addresses and answer through a balancer, their gateway."""
        return dict(self.options).get("mode") == '"dnat"'

    @property
    def has_etcd(self) -> bool:
        """Whether a host runs etcd."""
        return self.is_group and self.transport == "etcd"

    @property
    def needs_services(self) -> bool:
        """Whether the default service (IPv4, TCP, public address) does not suffice."""
        return self.is_group or self.ipv6 or self.udp or self.needs_vips

    @property
    def needs_vips(self) -> bool:
        """Whether the balancer needs a VIP beside the only address that nodes could report to."""
        return self.direct and self.one_armed and not self.is_group

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LabSpec:
        """Rebuild a spec from `attrs.asdict` that went through JSON.

        What another version of galelb wrote beside is left out: its labs can be taken down too.
        """
        known = {field.name for field in attrs.fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in known})


def _problems(spec: LabSpec) -> list[str]:
    problems = [
        f"lab: {role}: must be between 1 and {most}, got {count}"
        for role, count, most in (
            ("balancers", spec.balancers, MAX_BALANCERS),
            ("nodes", spec.nodes, MAX_HOSTS_PER_ROLE),
            ("clients", spec.clients, MAX_HOSTS_PER_ROLE),
        )
        if not 1 <= count <= most
    ]
    if not _NAME.fullmatch(spec.name):
        problems.append(f"lab: name: use 1 to 32 of a-z, 0-9 and '-', got {spec.name!r}")
    if not _PREFIX.fullmatch(spec.prefix):
        problems.append(f"lab: prefix: must be 'gale' and 4 hex digits, got {spec.prefix!r}")
    if spec.weights and len(spec.weights) != spec.nodes:
        given = ",".join(map(str, spec.weights))
        problems.append(f"lab: weights: give one per node ({spec.nodes}), got {given}")
    if any(not 1 <= weight <= MAX_WEIGHT for weight in spec.weights):
        problems.append(f"lab: weights: each must be between 1 and {MAX_WEIGHT}")
    if not (spec.ipv4 or spec.ipv6):
        problems.append("lab: at least one of IPv4 and IPv6 is needed")
    return [*problems, *_family_problems(spec), *_group_problems(spec)]


def _group_problems(spec: LabSpec) -> Iterator[str]:
    for key, given, known in (
        ("transport", spec.transport, TRANSPORTS),
        ("announce", spec.announce, ANNOUNCERS),
    ):
        if given not in known:
            yield f"lab: {key}: must be {' or '.join(known)}, got {given!r}"
        if given != known[0] and not spec.is_group:
            yield f"lab: {key}: only a group of balancers has one; give --balancers 2 or more"
    if spec.has_router and spec.is_dnat:
        yield (
            "lab: option: mode=dnat: answers must pass the balancer that their connection goes"
            " through, and a router spreads connections over all: use --announce arp"
        )


def _family_problems(spec: LabSpec) -> Iterator[str]:
    if not spec.node_family:
        return
    if spec.node_family not in FAMILIES:
        yield f"lab: node_family: must be ipv4 or ipv6, got {spec.node_family!r}"
    if spec.one_armed:
        yield "lab: node_family: a one-armed lab has one network, so nodes are of its families"
    if not spec.any_family:
        yield (
            f"lab: node_family: {spec.plugin} reaches only nodes of the VIP's family; one with"
            " tunnels reaches others, for example --plugin l3_route"
        )
