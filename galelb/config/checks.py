# SPDX-License-Identifier: Apache-2.0
"""What no single value shows: clashes between keys, and what is allowed but hardly meant."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

from galelb.config.draft import Draft
from galelb.config.models import BalancerConfig

__all__ = ["check_clashes", "config_warnings"]

_PRIVATE_PORTS = ("node_port", "api_port", "load_balancer_port")
_SLOTS_PER_NODE = 100


def check_clashes(draft: Draft) -> None:
    """Find duplicates and ports used twice; problems go to the draft."""
    services = draft.services.items()
    where = ((i, (s.vip, s.port, s.protocol, s.vlan)) for i, s in services)
    _unique(draft, "services", "", where, "{} has the same VIP, port, protocol and VLAN")
    _unique(
        draft, "services", "name", ((i, s.name) for i, s in services), "{} has this name already"
    )
    nodes = draft.nodes.items()
    _unique(draft, "nodes", "ip", ((i, n.ip) for i, n in nodes), "{} has this address already")
    named = ((i, n.name) for i, n in nodes if n.name)
    _unique(draft, "nodes", "name", named, "{} has this name already")
    _check_peers(draft)
    _check_ports(draft)
    _check_vips(draft)


def _unique(
    draft: Draft, array: str, key: str, items: Iterable[tuple[int, Hashable]], text: str
) -> None:
    seen: dict[Hashable, int] = {}
    for index, value in items:
        first = seen.setdefault(value, index)
        if first != index:
            path = (array, index, key) if key else (array, index)
            draft.add(text.format(f"{array}[{first}]"), *path)


def _check_peers(draft: Draft) -> None:
    seen: dict[Any, int] = {}
    for index, peer in enumerate(draft.quorum.addresses):
        first = seen.setdefault((peer.ip, peer.port), index)
        if first != index:
            path = ("load_balancer_quorum", "addresses", index)
            draft.add(f"the same balancer as addresses[{first}]", *path)


def _check_ports(draft: Draft) -> None:
    """All private ports listen on one address, so they have to differ."""
    private, public = draft.private_interface, draft.public_interface
    if private is None:
        return
    seen: dict[int, str] = {}
    quorum = draft.quorum
    if quorum.transport is not None and quorum.sharing_port in {
        getattr(private, key) for key in _PRIVATE_PORTS if draft.ok("private_interface", key)
    }:
        text = f"port {quorum.sharing_port} is used by [private_interface] already"
        draft.add(text, "load_balancer_quorum", "sharing_port")
    for key in _PRIVATE_PORTS:
        if draft.ok("private_interface", key):
            first = seen.setdefault(getattr(private, key), key)
            if first != key:
                text = f"port {getattr(private, key)} is used by {first} already"
                draft.add(text, "private_interface", key)
    if public is None or draft.data.get("services"):
        return
    one_interface = public.net_interface_public == private.net_interface_private
    if one_interface and public.clients_port in seen and draft.ok("public_interface"):
        key = seen[public.clients_port]
        text = f"port {public.clients_port} of the same interface is used by {key}"
        draft.add(text, "public_interface", "clients_port")


def _check_vips(draft: Draft) -> None:
    vips = {section.vip: index for index, section in draft.services.items()}
    for index, node in draft.nodes.items():
        if node.ip in vips:
            text = f"is the VIP of services[{vips[node.ip]}]: use the node's own address"
            draft.add(text, "nodes", index, "ip")


def config_warnings(config: BalancerConfig) -> list[str]:
    """Return what is allowed but hardly meant, one sentence each."""
    checks: tuple[Callable[[BalancerConfig], Iterator[str]], ...] = (
        _no_nodes,
        _lonely_peers,
        _useless_nodes,
        _small_table,
        _strange_service_nodes,
    )
    return [warning for check in checks for warning in check(config)]


def _no_nodes(config: BalancerConfig) -> Iterator[str]:
    if not config.node_health.sources and not config.nodes:
        yield "no health source and no [[nodes]]: no node will ever get traffic"


def _lonely_peers(config: BalancerConfig) -> Iterator[str]:
    quorum = config.load_balancer_quorum
    if quorum.addresses and quorum.transport is None:
        yield "load_balancer_quorum.addresses without a transport: the balancers do not talk"


def _useless_nodes(config: BalancerConfig) -> Iterator[str]:
    if not config.services:
        return  # the default service takes its family from the interface
    families = {section.vip.version for section in config.services}
    for index, node in enumerate(config.nodes):
        if node.ip.version not in families:
            yield f"nodes[{index}]: no service has an IPv{node.ip.version} VIP to use {node.ip} for"


def _small_table(config: BalancerConfig) -> Iterator[str]:
    size, nodes = config.forwarding.table_size, len(config.nodes)
    if nodes * _SLOTS_PER_NODE > size:
        yield (
            f"forwarding.table_size: {size} slots for {nodes} nodes is uneven; "
            f"use a prime above {nodes * _SLOTS_PER_NODE}"
        )


def _strange_service_nodes(config: BalancerConfig) -> Iterator[str]:
    if config.node_health.sources:
        return  # nodes may still join
    known = {node.ip for node in config.nodes}
    for index, section in enumerate(config.services):
        for ip in section.nodes:
            if ip not in known:
                yield f"services[{index}].nodes: {ip} is not in [[nodes]], and nothing else adds it"
