# SPDX-License-Identifier: Apache-2.0
"""`galelb node`: run the node agent, ask it how it stands, stop and start its node."""

from __future__ import annotations

import faulthandler
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

__all__ = ["node_command"]

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group("node", invoke_without_command=True)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="node.toml; without it that of the current folder, then /etc/galelb/node.toml.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="The least severe messages to log.",
)
@click.option("--log-json", is_flag=True, help="One JSON object per line of log.")
@click.pass_context
def node_command(ctx: click.Context, config: Path | None, log_level: str, log_json: bool) -> None:
    """Report this machine's health to the balancers until stopped.

    SIGTERM and Ctrl-C tell the balancers first, so that they send no new connections; a second
    signal ends it at once. The subcommands speak to an agent that runs.
    """
    if ctx.invoked_subcommand is None:
        _run(config, log_level, log_json)


def _run(config: Path | None, log_level: str, log_json: bool) -> None:
    import trio

    from galelb.config import find_config
    from galelb.config.node import load_node_config
    from galelb.logs import configure_logging
    from galelb.node.agent import run_agent
    from galelb.notify import Notifier

    faulthandler.enable()  # a watchdog's SIGABRT then says where the time went
    configure_logging(log_level, log_json)
    notifier = Notifier.from_environment()
    settings = load_node_config(find_config("node.toml", config))
    trio.run(run_agent, settings, notifier, strict_exception_groups=True)


def _with_agent(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which agent is meant."""
    for option in (
        click.option(
            "--token-file", type=_FILE, help="A copy of the agent's token, for changes over TCP."
        ),
        click.option("--config", type=_FILE, help="The node.toml of the agent."),
        click.option(
            "--api", metavar="URL", help="Another agent's API: http://HOST:PORT or unix:PATH."
        ),
        click.option("--json", "as_json", is_flag=True, help="Print the API's JSON object."),
    ):
        command = option(command)
    return command


@node_command.command("status")
@click.option("--check", is_flag=True, help="Exit with 1 when the node does not serve.")
@_with_agent
@click.pass_context
def status_command(ctx: click.Context, /, check: bool, **options: Any) -> None:
    """Show whether this node serves, and what each balancer makes of it."""
    status = _ask(ctx, "", **options)
    if check and status["health"] != "serving":
        raise click.exceptions.Exit(1)


@node_command.command("stop")
@_with_agent
@click.pass_context
def stop_command(ctx: click.Context, /, **options: Any) -> None:
    """Take this node out of service: no new connections, existing ones go on.

    The agent goes on running. It stays stopped, across restarts too, until `galelb node start`.
    """
    _ask(ctx, "stop", **options)


@node_command.command("start")
@_with_agent
@click.pass_context
def start_command(ctx: click.Context, /, **options: Any) -> None:
    """Take this node into service again, as far as its checks pass."""
    _ask(ctx, "start", **options)


def _ask(
    ctx: click.Context,
    change: str,
    *,
    as_json: bool,
    api: str | None,
    config: Path | None,
    token_file: Path | None,
) -> dict[str, Any]:
    from galelb.node.remote import open_agent

    assert ctx.parent is not None
    config = config or ctx.parent.params["config"]
    with open_agent(api, config=config, token_file=token_file) as client:
        status = client.post(change) if change else client.get("status")
    if as_json:
        click.echo(json.dumps(status, indent=2))
    else:
        from galelb.commands.node_view import changed_view, node_view
        from galelb.commands.status_tables import print_view

        print_view(changed_view(status) if change else node_view(status))
    return status
