# SPDX-License-Identifier: Apache-2.0
"""The command line options that describe a lab."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from galelb.durations import parse_duration
from galelb.errors import ConfigError
from galelb.lab.spec import ANNOUNCERS, FAMILIES, TRANSPORTS, LabSpec

__all__ = ["DURATION", "make_spec", "spec_options"]


class _Duration(click.ParamType[float]):
    """Seconds, written as in configuration files."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds, or fail as click does."""
        try:
            seconds = value if isinstance(value, float) else parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if seconds <= 0:
            self.fail("must be longer than nothing", param, ctx)
        return seconds


DURATION = _Duration()
"""An option such as 1m30s."""

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--plugin", default="l4_nat", show_default=True, help="The forwarder."),
    click.option("--balancers", default=1, show_default=True, help="How many balancers."),
    click.option("--nodes", default=3, show_default=True, help="How many nodes."),
    click.option("--clients", default=1, show_default=True, help="How many clients."),
    click.option("--weights", metavar="N,N,...", help="Weights of the nodes; all 1 by default."),
    click.option("--name", metavar="LAB", help="Name of the lab; one is made up by default."),
    click.option("--ipv6", is_flag=True, help="IPv6 instead of IPv4."),
    click.option("--dual", is_flag=True, help="IPv4 and IPv6."),
    click.option(
        "--node-family",
        type=click.Choice(FAMILIES),
        help="Family of the network of the nodes, if not the clients'; forwarders with tunnels.",
    ),
    click.option("--udp", is_flag=True, help="A UDP service beside the web service."),
    click.option("--one-armed", is_flag=True, help="Balancers with one interface for all."),
    click.option(
        "--transport",
        type=click.Choice(TRANSPORTS),
        default=TRANSPORTS[0],
        show_default=True,
        help="How several balancers talk to each other.",
    ),
    click.option(
        "--announce",
        type=click.Choice(ANNOUNCERS),
        default=ANNOUNCERS[0],
        show_default=True,
        help="How several balancers tell where VIPs are; bgp: to a router before them.",
    ),
    click.option(
        "--option",
        "options",
        metavar="KEY=VALUE",
        multiple=True,
        help="Option of the plugin, VALUE as in TOML; may be given again.",
    ),
)


def spec_options(command: Command) -> Command:
    """Add the options to a command; their values make a spec by `make_spec`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def make_spec(
    *,
    name: str | None,
    weights: str | None,
    node_family: str | None,
    ipv6: bool,
    dual: bool,
    options: tuple[str, ...],
    **counts: Any,
) -> LabSpec:
    """Return the spec for these options. Raises ConfigError."""
    from galelb.lab.state import new_spec

    if ipv6 and dual:
        raise click.UsageError("--dual has IPv6 already: give one of --ipv6 and --dual")
    return new_spec(
        name,
        weights=_weights(weights) if weights else (),
        node_family=node_family or "",
        ipv4=not ipv6,
        ipv6=ipv6 or dual,
        options=tuple(_option(text) for text in options),
        **counts,
    )


def _weights(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError([f"lab: weights: must be like 1,1,2, got {text!r}"]) from None


def _option(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise ConfigError([f"lab: option: must be KEY=VALUE, got {text!r}"])
    return key, toml_value(value)


def toml_value(text: str) -> str:
    """Return a TOML value; what is none by itself is taken as text."""
    import tomli

    try:
        tomli.loads(f"value = {text}")
    except tomli.TOMLDecodeError:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text
