# SPDX-License-Identifier: Apache-2.0
"""The network that an offline trace plays in: what is given, and what is made up for the rest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from ipaddress import ip_address, ip_network

import attrs

from galelb.errors import ConfigError
from galelb.model import IPAddress, Node

__all__ = ["Given", "Scene", "parse_address", "parse_mac", "parse_node", "parse_nodes", "scene"]

_VIP_MAC = "02:00:00:00:00:01"
_SRC_MAC = "02:00:00:00:00:02"
_GATEWAY_MAC = "02:00:00:00:00:fe"
_PUBLIC = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")}
_NODES = {4: ip_address("10.0.0.0"), 6: ip_address("fd00::")}
"""Where nodes are thought to be when there is none of that family."""
_PREFIXES = {4: (24, 16), 6: (64,)}
"""Networks around a node, of which the last has room for all nodes that there can be."""
_MAX_WEIGHT = 65535


@attrs.frozen(kw_only=True)
class Given:
    """What the user said of the network; None and nothing = make it up."""

    vip_mac: str | None = None
    src_mac: str | None = None
    gateway_mac: str | None = None
    public_addresses: Sequence[IPAddress] = ()
    private_addresses: Sequence[IPAddress] = ()
    mtu: int = 1500


@attrs.frozen(kw_only=True)
class Scene:
    """Everything that the programs and the control plane ask of a network.

    Clients are behind the gateway on the public interface, nodes on the private one.
    """

    nodes: Sequence[Node]
    """All with a MAC address."""
    vip_mac: str
    src_mac: str
    gateway_mac: str
    public_addresses: Sequence[IPAddress]
    private_addresses: Sequence[IPAddress]
    mtu: int


def parse_nodes(texts: Sequence[str]) -> list[Node]:
    """Return the nodes of all such options. Raises ConfigError, also for one given twice."""
    nodes: dict[IPAddress, Node] = {}
    for text in texts:
        node = parse_node(text)
        if node.address in nodes:
            raise _bad_node(text, f"{node.address} is given twice")
        nodes[node.address] = node
    return list(nodes.values())


def parse_node(text: str) -> Node:
    """Return the node of an option IP[,mac=MAC][,weight=N]. Raises ConfigError."""
    address, *rest = text.split(",")
    node = Node(address=parse_address(address.strip(), f"--node {text}"), static=True)
    for part in rest:
        key, _, value = part.strip().partition("=")
        if key == "mac":
            node = attrs.evolve(node, mac=parse_mac(value, f"--node {text}"))
        elif key == "weight":
            if not value.isascii() or not value.isdigit() or int(value) > _MAX_WEIGHT:
                raise _bad_node(text, f"weight must be 0 to {_MAX_WEIGHT}, got {value!r}")
            node = attrs.evolve(node, weight=int(value))
        else:
            raise _bad_node(text, f"unknown key {key!r}; allowed: mac, weight")
    return node


def parse_address(text: str, where: str) -> IPAddress:
    """Return an IP address. Raises ConfigError for what cannot be a host's."""
    try:
        address = ip_address(text)
    except ValueError:
        raise ConfigError([f"{where}: {text!r} is no IP address"]) from None
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        raise ConfigError([f"{where}: write the IPv4 address itself: {mapped}"])
    if address.is_multicast or address.is_unspecified or text == "255.255.255.255":
        raise ConfigError([f"{where}: {text} is no address of one host"])
    return address


def parse_mac(text: str, where: str) -> str:
    """Return a MAC address in lower case. Raises ConfigError for what cannot be a host's."""
    parts = text.lower().replace("-", ":").split(":")
    hexadecimal = all(len(part) == 2 and set(part) <= set("0123456789abcdef") for part in parts)
    if len(parts) != 6 or not hexadecimal:
        raise ConfigError([f'{where}: {text!r} is no MAC address, write "02:00:00:00:00:01"'])
    if int(parts[0], 16) & 1 or not any(int(part, 16) for part in parts):
        raise ConfigError([f"{where}: {text} is no address of one host (multicast or all zeros)"])
    return ":".join(parts)


def _bad_node(text: str, problem: str) -> ConfigError:
    return ConfigError([f"--node {text}: {problem}; write IP[,mac=MAC][,weight=N]"])


def scene(
    given: Given, nodes: Sequence[Node], vips: Collection[IPAddress], *, one_armed: bool
) -> Scene:
    """Return the scene for these nodes. Raises ConfigError for what contradicts itself."""
    if one_armed and given.vip_mac and given.src_mac and given.vip_mac != given.src_mac:
        raise ConfigError(["--vip-mac, --src-mac: the public interface is the private one here"])
    vip_mac = given.vip_mac or (one_armed and given.src_mac) or _VIP_MAC
    src_mac = vip_mac if one_armed else given.src_mac or _SRC_MAC
    taken = {*vips, *(node.address for node in nodes), *given.public_addresses}
    private = [_private(given, nodes, taken, version) for version in (4, 6)]
    public = [_public(given, version) for version in (4, 6)]
    return Scene(
        nodes=_with_macs(nodes),
        vip_mac=vip_mac,
        src_mac=src_mac,
        gateway_mac=given.gateway_mac or _GATEWAY_MAC,
        public_addresses=[address for found in public for address in found],
        private_addresses=[address for found in private for address in found],
        mtu=given.mtu,
    )


def _public(given: Given, version: int) -> list[IPAddress]:
    own = [address for address in given.public_addresses if address.version == version]
    return own or [_PUBLIC[version]]


def _private(
    given: Given, nodes: Sequence[Node], taken: Collection[IPAddress], version: int
) -> list[IPAddress]:
    """Return the addresses given, else the first free one beside the nodes."""
    own = [address for address in given.private_addresses if address.version == version]
    if own:
        return own
    beside = next((n.address for n in nodes if n.address.version == version), _NODES[version])
    networks = (ip_network((beside, bits), strict=False) for bits in _PREFIXES[version])
    hosts = (address for network in networks for address in network.hosts())
    return [next(address for address in hosts if address not in taken)]


def _with_macs(nodes: Sequence[Node]) -> list[Node]:
    return [
        attrs.evolve(node, mac=node.mac or f"02:00:00:01:{number >> 8:02x}:{number & 0xFF:02x}")
        for number, node in enumerate(nodes, 1)
    ]
