# SPDX-License-Identifier: Apache-2.0
"""`galelb check`: validates a configuration and shows what is in force."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from galelb.config import BalancerConfig

__all__ = ["check_command"]


@click.command("check")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The file; else ./lb.toml, else /etc/galelb/lb.toml.",
)
@click.option(
    "--plugin", "select", multiple=True, metavar="NAME", help="Override the plugin of NAME's kind."
)
@click.option("--node", is_flag=True, help="Check a node.toml instead of an lb.toml.")
@click.option(
    "--strict", is_flag=True, help="Fail on warnings, such as interfaces this machine lacks."
)
@click.option("--quiet", is_flag=True, help="Print nothing but what is wrong.")
def check_command(
    config: Path | None, select: tuple[str, ...], node: bool, strict: bool, quiet: bool
) -> None:
    """Validate a configuration, and print it with every default and its plugins.

    Exits with 2 and all problems, one a line, when something is wrong. What is printed is
    TOML that means the same; secrets are shown as "***".
    """
    from galelb.logs import configure_logging

    configure_logging("warning")
    if node:
        if select:
            raise click.UsageError("--plugin is for an lb.toml, a node has no plugins to select.")
        _check_node(config, quiet=quiet)
    else:
        _check_balancer(config, select, strict=strict, quiet=quiet)


def _check_node(path: Path | None, *, quiet: bool) -> None:
    from galelb.config.node import load_node_config
    from galelb.config.show import show_sections
    from galelb.config.toml_file import find_config

    file = find_config("node.toml", path)
    config = load_node_config(file)
    if quiet:
        return
    click.echo(f"# {file}: valid\n")
    click.echo(show_sections(config), nl=False)


def _check_balancer(
    path: Path | None, select: tuple[str, ...], *, strict: bool, quiet: bool
) -> None:
    from galelb.config import config_warnings, digest, find_config, load_balancer_config
    from galelb.config.show import show_config
    from galelb.errors import ConfigError
    from galelb.plugins import Plugins

    file = find_config("lb.toml", path)
    plugins = Plugins.discover()
    config = load_balancer_config(file, plugins, select)
    warnings = [*config_warnings(config), *_missing(config)]
    if strict and warnings:
        raise ConfigError([f"{file}: {warning}" for warning in warnings])
    for warning in warnings:
        click.echo(f"{file}: warning: {warning}", err=True)
    if quiet:
        return
    click.echo(f"# {file}: valid\n# digest of what a group shares: {digest(config)}")
    for info in plugins.infos():
        if info.name in config.plugins:
            kind, package = ", ".join(info.kinds), f"{info.package} {info.version}".rstrip()
            click.echo(f"# plugin {info.name}: {kind}, from {package}")
    click.echo(f"\n{show_config(config)}", nl=False)


def _missing(config: BalancerConfig) -> list[str]:
    from galelb.bpf.find_bcc import BccMissing, find_bcc
    from galelb.config import missing_interfaces

    missing = [f"this machine has no interface {name}" for name in missing_interfaces(config)]
    try:
        find_bcc()
    except BccMissing as problem:
        missing.append(str(problem))
    return missing
