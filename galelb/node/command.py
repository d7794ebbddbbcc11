# SPDX-License-Identifier: Apache-2.0
"""`galelb node`: run the node agent."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["node_command"]


@click.command("node")
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
def node_command(config: Path | None, log_level: str, log_json: bool) -> None:
    """Report this machine's health to the balancers until stopped.

    SIGTERM and Ctrl-C tell the balancers first, so that they send no new connections; a second
    signal ends it at once.
    """
    import trio

    from galelb.config import find_config
    from galelb.config.node import load_node_config
    from galelb.logs import configure_logging
    from galelb.node.agent import run_agent

    configure_logging(log_level, log_json)
    settings = load_node_config(find_config("node.toml", config))
    trio.run(run_agent, settings, strict_exception_groups=True)
