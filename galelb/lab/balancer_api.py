# SPDX-License-Identifier: Apache-2.0
"""Asks a balancer of the lab over its API socket how it is and which nodes it uses."""

from __future__ import annotations

import json
from typing import Any

import attrs

from galelb.lab.hosts import Host
from galelb.lab.http_client import FetchError, HttpConnection

__all__ = ["NodesInUse", "nodes", "nodes_in_use", "peers", "status"]

_TIMEOUT_S = 2.0


@attrs.frozen
class NodesInUse:
    """Which nodes a balancer uses: as it judges them, and as its tables have them."""

    routable: frozenset[str]
    """Addresses of the nodes that are to get new flows."""
    in_tables: tuple[int, ...]
    """How many nodes the lookup table of each service holds; it follows a moment later."""


async def nodes_in_use(balancer: Host) -> NodesInUse:
    """Ask a balancer; FetchError when it does not answer ("no_socket" before it listens)."""
    nodes, services = await _get(balancer, "/v1/nodes", "/v1/services")
    return NodesInUse(
        frozenset(node["address"] for node in nodes["nodes"] if node["takes_new_flows"]),
        tuple(service["routable_nodes"] for service in services["services"]),
    )


async def nodes(balancer: Host) -> list[dict[str, Any]]:
    """Return the balancer's nodes, as `galelb nodes --json` prints them."""
    (answer,) = await _get(balancer, "/v1/nodes")
    return list(answer["nodes"])


async def peers(balancer: Host) -> dict[str, Any]:
    """Return the balancer's view of its group, as `galelb peers --json` prints it."""
    (answer,) = await _get(balancer, "/v1/peers")
    return answer


async def status(balancer: Host) -> dict[str, Any]:
    """Return the balancer's own view of itself, as `galelb status --json` prints it."""
    (answer,) = await _get(balancer, "/v1/status")
    return answer


async def _get(balancer: Host, *paths: str) -> list[dict[str, Any]]:
    socket = balancer.instance / "api.sock"
    if not socket.exists():
        raise FetchError("no_socket", str(socket))
    connection = await HttpConnection.open_unix(str(socket), _TIMEOUT_S)
    try:
        answers = [await connection.get(path, _TIMEOUT_S) for path in paths]
    finally:
        await connection.aclose()
    for path, answer in zip(paths, answers, strict=True):
        if answer.status != 200:
            raise FetchError(f"status_{answer.status}", path)
    return [dict(json.loads(answer.body)) for answer in answers]
