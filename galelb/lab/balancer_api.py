# SPDX-License-Identifier: Apache-2.0
"""Asks a balancer of the lab over its API socket how it is and which nodes it uses."""

from __future__ import annotations

import json
from typing import Any

from galelb.lab.hosts import Host
from galelb.lab.http_client import FetchError, HttpConnection

__all__ = ["routable_nodes", "status"]

_TIMEOUT_S = 2.0


async def routable_nodes(balancer: Host) -> frozenset[str]:
    """Return the addresses of the nodes that get new flows.

    Raises FetchError when the balancer does not answer (cause "no_socket" before it listens).
    """
    data = await _get(balancer, "/v1/nodes")
    return frozenset(node["address"] for node in data["nodes"] if node["takes_new_flows"])


async def status(balancer: Host) -> dict[str, Any]:
    """Return the balancer's own view of itself, as `galelb status --json` prints it."""
    return await _get(balancer, "/v1/status")


async def _get(balancer: Host, path: str) -> dict[str, Any]:
    socket = balancer.instance / "api.sock"
    if not socket.exists():
        raise FetchError("no_socket", str(socket))
    connection = await HttpConnection.open_unix(str(socket), _TIMEOUT_S)
    try:
        response = await connection.get(path, _TIMEOUT_S)
    finally:
        await connection.aclose()
    if response.status != 200:
        raise FetchError(f"status_{response.status}", path)
    return dict(json.loads(response.body))
