# SPDX-License-Identifier: Apache-2.0
"""The commands that ask or change a running balancer: tables for people, --json for programs."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from galelb.api.limits import MAX_OFFSET, MAX_PAGE, MAX_WEIGHT
from galelb.commands.options import api_option, config_option, token_file_option

if TYPE_CHECKING:
    from galelb.client import ApiClient

__all__ = [
    "drain_command",
    "flows_command",
    "nodes_command",
    "peers_command",
    "services_command",
    "status_command",
    "undrain_command",
    "weight_command",
    "with_client",
]


def with_client(
    command: Callable[..., None],
) -> Callable[..., None]:
    """Add the common options; the command gets an open client and whether JSON is wanted."""

    @click.option("--json", "as_json", is_flag=True, help="Print the API's JSON object.")
    @api_option
    @config_option
    @token_file_option
    @functools.wraps(command)
    def wrapper(
        *,
        as_json: bool,
        api: str | None,
        config: Path | None,
        token_file: Path | None,
        **kwargs: Any,
    ) -> None:
        from galelb.client import open_client

        with open_client(api, config=config, token_file=token_file) as client:
            command(client, as_json, **kwargs)

    return wrapper


def _show(answer: Mapping[str, Any], as_json: bool, view: str, key: str | None = None) -> None:
    """Print an answer: as it is, or as the view of this name in status_tables."""
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    # rich is only paid for when a table is drawn.
    from galelb.commands import status_tables

    content = answer if key is None else answer[key]
    status_tables.print_view(status_tables.VIEWS[view](content))


@click.command("status")
@click.option("--check", is_flag=True, help="Exit with 1 when it does not forward.")
@with_client
def status_command(client: ApiClient, as_json: bool, check: bool) -> None:
    """Show whether the balancer forwards, and if not, why."""
    status = client.get("status")
    _show(status, as_json, "status")
    if check and not status["ready"]:
        raise click.exceptions.Exit(1)


@click.command("nodes")
@click.argument("node", required=False)
@with_client
def nodes_command(client: ApiClient, as_json: bool, node: str | None) -> None:
    """Show the nodes: state, weight, traffic; with NODE (address or name) all about that one."""
    if node is None:
        _show(client.get("nodes"), as_json, "nodes", "nodes")
        return
    shown = client.node(node)
    _show(shown | {"history": client.history(shown["address"])}, as_json, "node")


@click.command("services")
@with_client
def services_command(client: ApiClient, as_json: bool) -> None:
    """Show the services: routable nodes, lookup table, traffic, drops."""
    _show(client.get("services"), as_json, "services", "services")


@click.command("flows")
@click.option("--service", metavar="NAME", help="Only flows of this service.")
@click.option("--node", metavar="NODE", help="Only flows to this node (address or name).")
@click.option("--client", "client_address", metavar="ADDRESS", help="Only flows of this client.")
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_PAGE),
    default=100,
    show_default=True,
    help="How many to show.",
)
@click.option("--state", metavar="STATE", help="Only flows in this state (established, ...).")
@click.option(
    "--offset", type=click.IntRange(0, MAX_OFFSET), default=0, help="How many to leave out first."
)
@with_client
def flows_command(
    client: ApiClient,
    as_json: bool,
    service: str | None,
    node: str | None,
    client_address: str | None,
    state: str | None,
    limit: int,
    offset: int,
) -> None:
    """Show tracked connections."""
    page = client.get(
        "flows",
        service=service,
        node=node,
        client=client_address,
        state=state,
        limit=limit,
        offset=offset,
    )
    _show(page, as_json, "flows")


@click.command("peers")
@with_client
def peers_command(client: ApiClient, as_json: bool) -> None:
    """Show the group of balancers: who lives, agrees, and has which address."""
    _show(client.get("peers"), as_json, "peers")


@click.command("drain")
@click.argument("node")
@with_client
def drain_command(client: ApiClient, as_json: bool, node: str) -> None:
    """Send no new connections to NODE (address or name); existing ones go on.

    Stays in force, across restarts too, until `galelb undrain NODE`.
    """
    _show(client.drain(node, on=True), as_json, "drained")


@click.command("undrain")
@click.argument("node")
@with_client
def undrain_command(client: ApiClient, as_json: bool, node: str) -> None:
    """Send new connections to NODE (address or name) again."""
    _show(client.drain(node, on=False), as_json, "drained")


class _Weight(click.ParamType[int | None]):
    name = "weight"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        text = str(value)
        if text == "own":
            return None
        if text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= MAX_WEIGHT:
            return int(text)
        return self.fail(f"must be a whole number from 0 to {MAX_WEIGHT}, or 'own'", param, ctx)


@click.command("weight")
@click.argument("node")
@click.argument("weight", type=_Weight(), metavar="WEIGHT")
@with_client
def weight_command(client: ApiClient, as_json: bool, node: str, weight: int | None) -> None:
    """Give NODE (address or name) another share of new connections.

    WEIGHT is 0 to 1000, relative to the other nodes' (0: none at all), or "own" for the
    node's own again. It stays in force, across restarts too.
    """
    _show(client.set_weight(node, weight), as_json, "weight")
