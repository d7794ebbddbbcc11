# SPDX-License-Identifier: Apache-2.0
"""A world made of a configuration and nodes alone: no interface and no balancer need exist."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from galelb.datapath.host import host_view
from galelb.datapath.request import load_request
from galelb.datapath.sandbox import Sandbox
from galelb.services import resolve_services
from galelb.trace.scene import Given, Scene, scene
from galelb.trace.stage import Filled, build_network, fill_maps
from galelb.trace.world import World, load, place, sides

if TYPE_CHECKING:
    from galelb.config import BalancerConfig
    from galelb.model import Node
    from galelb.plugins import Plugins

__all__ = ["offline_world"]

_SOME = 10
"""Nodes that are told of, and refusals."""
_FLOW_SEED = 0x6761_6C65
"""Any will do, but the same each time: programs that were compiled once are found again."""


@contextlib.contextmanager
def offline_world(
    config: BalancerConfig,
    plugins: Plugins,
    nodes: Sequence[Node],
    given: Given,
    *,
    large: bool = False,
) -> Iterator[World]:
    """Make a world in a namespace of its own, of which nothing stays.

    `nodes` come beside those of the configuration, and in place of those with their address;
    `large` is for frames of several pages. Raises GaleError.
    """
    everyone = {section.ip: section.node() for section in config.nodes}
    everyone |= {node.address: node for node in nodes}
    one_armed = len(set(sides(config))) == 1
    vips = [section.vip for section in config.services]
    network = scene(given, list(everyone.values()), vips, one_armed=one_armed)
    with Sandbox() as sandbox, contextlib.ExitStack() as stack:
        present = build_network(sandbox, config, network)
        private, public = (present[name] for name in sides(config))
        host = sandbox.run(host_view, private, public, _FLOW_SEED)
        services = dict(enumerate(resolve_services(config, public), 1))
        request = load_request(plugins, config, services, host, present)
        generation = load(stack, sandbox, request, large=large)
        filled = fill_maps(generation, config, plugins, network, private)
        yield World(
            generation=generation,
            place=place(config, present, services, filled.numbers, network.gateway_mac),
            run=sandbox.run,
            notes=[*_notes(network, one_armed=one_armed), *_refused(filled)],
        )


def _notes(network: Scene, *, one_armed: bool) -> list[str]:
    """Return what was assumed of the network, in the words of the options that change it."""
    addresses = ", ".join(map(str, network.private_addresses))
    ways = [f"--vip-mac {network.vip_mac}: the interface towards the clients"]
    if not one_armed:
        ways.append(f"--src-mac {network.src_mac}: the interface towards the nodes")
    return [
        *ways,
        f"--gateway-mac {network.gateway_mac}: the router to the clients",
        f"--private-address {addresses}: what nodes see as the balancer",
        f"--mtu {network.mtu}: of all interfaces",
        *_some(
            [f"--node {n.address},mac={n.mac},weight={n.weight}" for n in network.nodes], "nodes"
        ),
    ]


def _node(node: Node) -> str:
    return f"--node {node.address},mac={node.mac},weight={node.weight}"


def _refused(filled: Filled) -> list[str]:
    return _some([f"refused by {name}: {reason}" for name, reason in filled.refused], "refusals")


def _some(lines: Sequence[str], what: str) -> list[str]:
    """Return the lines that people will look at."""
    rest = len(lines) - _SOME
    return [*lines[:_SOME], *([f"and {rest} more {what}"] if rest > 0 else [])]
