# SPDX-License-Identifier: Apache-2.0
"""`galelb plan`: what another configuration would change, and which share of the flows moves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from galelb.commands.options import FILE, api_option, token_file_option

if TYPE_CHECKING:
    from galelb.config import BalancerConfig
    from galelb.model import Interface
    from galelb.plan.values import Side
    from galelb.plugins import Plugins

__all__ = ["plan_command"]

MAX_WEIGHT = 1000  # galelb.api.limits.MAX_WEIGHT, which costs time to import; a test compares


class _NodeWeight(click.ParamType[tuple[str, int]]):
    name = "node=weight"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        node, equals, text = str(value).rpartition("=")
        if node and equals and text.isascii() and text.isdigit() and int(text[:9]) <= MAX_WEIGHT:
            return node, int(text)
        return self.fail(f"must be NODE=N, N a whole number from 0 to {MAX_WEIGHT}", param, ctx)


@click.command("plan")
@click.option(
    "--config",
    type=FILE,
    help="The new lb.toml; else ./lb.toml, else /etc/galelb/lb.toml. With --weight, --drain or"
    " --undrain and without it the configuration stays.",
)
@click.option("--against", type=FILE, help="Compare with this file instead of a running balancer.")
@click.option(
    "--weight",
    "weights",
    type=_NodeWeight(),
    multiple=True,
    metavar="NODE=N",
    help="And then this.",
)
@click.option("--drain", multiple=True, metavar="NODE", help="And then this node drained.")
@click.option("--undrain", multiple=True, metavar="NODE", help="And then this node undrained.")
@click.option("--plugin", "select", multiple=True, metavar="NAME", help="As for `galelb run`.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@api_option
@token_file_option
def plan_command(
    config: Path | None,
    against: Path | None,
    weights: tuple[tuple[str, int], ...],
    drain: tuple[str, ...],
    undrain: tuple[str, ...],
    select: tuple[str, ...],
    as_json: bool,
    api: str | None,
    token_file: Path | None,
) -> None:
    """Show what a new configuration would change; change nothing.

    Compares it with what the balancer runs at present: services, nodes, settings, whether
    programs are compiled anew, what a reload refuses, and for each service the share of its
    flows that would move, from lookup tables that are really built. Exits with 2 and all
    problems when the configuration is not valid.
    """
    from galelb.logs import configure_logging
    from galelb.plan.make import make_plan
    from galelb.plan.nodes import after_words
    from galelb.plan.show import as_json as plan_json
    from galelb.plan.sides import next_side
    from galelb.plugins import Plugins

    configure_logging("error")
    plugins = Plugins.discover()
    words = bool(weights or drain or undrain)
    file = _new_file(config, against, words=words)
    # What is wrong with the file is said whether or not a balancer runs.
    new = None if file is None else _load(file, plugins, select)
    old, name = _old_side(against, plugins, select, api, file, token_file)
    then = old if new is None else next_side(old, new, _interface)
    nodes = after_words(then.nodes, weights=dict(weights), drain=drain, undrain=undrain)
    plan = make_plan(old, attrs.evolve(then, nodes=nodes), plugins)
    title = "the same configuration" if file is None else str(file)
    if words:
        title += _words(weights, drain, undrain)
    if as_json:
        click.echo(json.dumps(plan_json(plan, title, name), indent=2))
        return
    from galelb.commands.status_tables import print_view
    from galelb.plan.show import plan_view

    print_view(plan_view(plan, title, name))


def _words(weights: Sequence[tuple[str, int]], drain: Sequence[str], undrain: Sequence[str]) -> str:
    said = [f"weight {node} {weight}" for node, weight in weights]
    said += [f"drain {node}" for node in drain] + [f"undrain {node}" for node in undrain]
    return f", then {', '.join(said)}"


def _new_file(config: Path | None, against: Path | None, *, words: bool) -> Path | None:
    """Return the file with the new configuration; None = it stays as it is."""
    from galelb.config import find_config

    if config is None and words:
        return None
    return find_config("lb.toml", config)


def _load(path: Path, plugins: Plugins, select: Sequence[str]) -> BalancerConfig:
    from galelb.config import load_balancer_config

    return load_balancer_config(path, plugins, select)


def _old_side(
    against: Path | None,
    plugins: Plugins,
    select: Sequence[str],
    api: str | None,
    file: Path | None,
    token_file: Path | None,
) -> tuple[Side, str]:
    """Return what is in force now, and how to call it."""
    from galelb.client import open_client
    from galelb.plan.sides import offline_side, running_side

    if against is not None:
        return offline_side(_load(against, plugins, select), _interface), str(against)
    with open_client(api, config=file, token_file=token_file) as client:
        side = running_side(client, plugins)
    return side, f"the balancer {side.config.instance.name}" + (f" at {api}" if api else "")


def _interface(name: str) -> Interface:
    """Return an interface of this machine, whose address is the default service's."""
    import trio

    from galelb.netlink import open_netlink

    async def look() -> Interface:
        async with open_netlink() as netlink:
            return await netlink.interface(name)

    return trio.run(look)
