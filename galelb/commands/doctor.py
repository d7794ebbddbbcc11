# SPDX-License-Identifier: Apache-2.0
"""`galelb doctor`: looks for what keeps this machine from its work, and says how to mend it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galelb.errors import ConfigError, EnvironmentProblem

if TYPE_CHECKING:
    from galelb.doctor.findings import Finding

__all__ = ["doctor_command"]

_NODE_SECTION = "load_balancer"
"""The section that every node.toml has, and no lb.toml."""


@click.command("doctor")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="lb.toml or node.toml; else the one of the current folder, then of /etc/galelb.",
)
@click.option("--node", is_flag=True, help="Check a node, where there is an lb.toml, too.")
@click.option("--plugin", "select", multiple=True, metavar="NAME", help="As for `galelb run`.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor_command(config: Path | None, node: bool, select: tuple[str, ...], as_json: bool) -> None:
    """Check the machine of a balancer or of a node; change nothing.

    Each line is one check; what is wrong has the command that mends it, where there is one.
    Exits with 0 when nothing fails, 1 when something does, 3 when it cannot look.
    """
    from galelb.doctor import report
    from galelb.doctor.findings import Level
    from galelb.logs import configure_logging

    configure_logging("error")
    path, is_node = _which(config, node)
    if is_node:
        if select:
            raise click.UsageError("--plugin is for a balancer, a node has no plugins to select.")
        role, findings = "node", _node(path)
    else:
        role, findings = "balancer", _balancer(path, select)
    if as_json:
        click.echo(json.dumps(report.as_json(role, str(path), findings), indent=2))
    else:
        click.echo(report.as_text(role, str(path), findings))
    if report.count(findings, Level.FAIL):
        raise click.exceptions.Exit(1)


def _which(config: Path | None, node: bool) -> tuple[Path, bool]:
    """Return the file and whether it is a node's."""
    from galelb.config.toml_file import find_config, read_toml

    if config is not None:
        return config, node or _NODE_SECTION in read_toml(config).data
    if node:
        return find_config("node.toml"), True
    try:
        return find_config("lb.toml"), False
    except ConfigError as error:
        try:
            return find_config("node.toml"), True
        except ConfigError:
            text = str(error).replace("no lb.toml", "neither lb.toml nor node.toml", 1)
            raise ConfigError([text]) from None


def _balancer(path: Path, select: Sequence[str]) -> list[Finding]:
    if os.geteuid() != 0:
        raise EnvironmentProblem("galelb doctor needs root to look at a balancer's programs")
    import trio

    from galelb.config import load_balancer_config
    from galelb.doctor.balancer import check_balancer
    from galelb.doctor.look_at_balancer import look_at_balancer
    from galelb.plugins import Plugins

    plugins = Plugins.discover()
    config = load_balancer_config(path, plugins, select)
    facts = trio.run(look_at_balancer, config, plugins)
    return list(check_balancer(config, facts))


def _node(path: Path) -> list[Finding]:
    import trio

    from galelb.config.node import load_node_config
    from galelb.doctor.look_at_node import look_at_node
    from galelb.doctor.node import check_node
    from galelb.node.sysctls import read_sysctl

    config = load_node_config(path)
    side = trio.run(look_at_node, config)
    return list(check_node(config, side, read_sysctl))
