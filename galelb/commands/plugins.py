# SPDX-License-Identifier: Apache-2.0
"""`galelb plugins`: shows what is installed, where it comes from and what can be set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs
import click

if TYPE_CHECKING:
    from galelb.config.option_schema import OptionInfo
    from galelb.plugins.infos import PluginInfo

__all__ = ["plugins_command"]

_INDENT = "    "


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plugins_command(as_json: bool) -> None:
    """Show the installed plugins: name, kind, version, package and options."""
    from galelb.logs import configure_logging
    from galelb.plugins import Plugins

    configure_logging("warning")
    infos = Plugins.discover().infos()
    if as_json:
        click.echo(json.dumps({"plugins": [_as_json(info) for info in infos]}, indent=2))
    else:
        click.echo("\n\n".join("\n".join(_as_text(info)) for info in infos))


def _as_json(info: PluginInfo) -> dict[str, Any]:
    return attrs.asdict(info) | {
        "options": [attrs.asdict(one) | {"required": one.required} for one in info.options]
    }


def _as_text(info: PluginInfo) -> Iterator[str]:
    package = f"{info.package} {info.version}".strip()
    origin = f"  ({package})" if package else ""
    yield f"{click.style(info.name, bold=True)}  {', '.join(info.kinds)}{origin}"
    if info.error is not None:
        yield _INDENT + click.style(f"cannot be used: {info.error}", fg="red")
    elif info.description:
        yield _INDENT + info.description
    if info.options:
        yield f"{_INDENT}[plugins.{info.name}]"
    for option in info.options:
        yield from _option(option)


def _option(option: OptionInfo) -> Iterator[str]:
    value = f" = {option.default}" if option.default else ""
    required = ", required" if option.required else ""
    yield f"{_INDENT}{option.name}{value}  ({option.type}{required})"
    if option.description:
        yield f"{_INDENT * 2}{option.description}"
