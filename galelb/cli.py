# SPDX-License-Identifier: Apache-2.0
"""The `galelb` command: finds the subcommand, imports only that, turns errors into exit codes."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

import click

from galelb.errors import ConfigError, GaleError

__all__ = ["COMMANDS", "cli", "main", "run"]

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("galelb.commands.run:run_command", "Run the balancer."),
    "node": ("galelb.node.command:node_command", "Run the node agent; ask, stop, start it."),
    "check": ("galelb.commands.check:check_command", "Validate a configuration and show it."),
    "plugins": ("galelb.commands.plugins:plugins_command", "Show the installed plugins."),
    "status": ("galelb.commands.status:status_command", "Show whether a balancer forwards."),
    "nodes": ("galelb.commands.status:nodes_command", "Show the nodes of a balancer."),
    "services": ("galelb.commands.status:services_command", "Show the services of a balancer."),
    "flows": ("galelb.commands.status:flows_command", "Show tracked connections."),
    "peers": ("galelb.commands.status:peers_command", "Show the other balancers of the group."),
    "group-key": (
        "galelb.commands.group_key:group_key_group",
        "Make and change the keys of a group.",
    ),
    "events": ("galelb.commands.events:events_command", "Show what happened, and happens."),
    "top": ("galelb.commands.top:top_command", "Watch a balancer live."),
    "drain": ("galelb.commands.status:drain_command", "Send a node no new flows."),
    "undrain": ("galelb.commands.status:undrain_command", "Send a node new flows again."),
    "weight": ("galelb.commands.status:weight_command", "Set the weight of a node."),
    "plan": ("galelb.commands.plan:plan_command", "Show what a new configuration would change."),
    "trace": (
        "galelb.commands.trace:trace_command",
        "Tell why packets go where they go.",
    ),
    "capture": (
        "galelb.commands.capture:capture_command",
        "Show live traffic, before and after.",
    ),
    "doctor": ("galelb.commands.doctor:doctor_command", "Say what this machine lacks."),
    "lab": ("galelb.lab.command:lab_group", "A whole network of balancers on this machine."),
    "detach": ("galelb.commands.run:detach_command", "Remove what a dead balancer left behind."),
}
"""Core commands: where each lives, and its line in the help. Nothing of it is imported early."""

_INTERRUPTED = 130


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return [*COMMANDS, *sorted(_plugin_commands())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name in COMMANDS:
            return _import(COMMANDS[cmd_name][0])
        return _plugin_commands(search=True).get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            known = self.list_commands(ctx)
            close = difflib.get_close_matches(name, known, n=1)
            hint = f' Did you mean "{close[0]}"?' if close else " See galelb --help."
            ctx.fail(f'No such command "{name}".{hint}')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list from the table, without importing the commands."""
        del ctx
        rows = [(name, text) for name, (_, text) in COMMANDS.items()]
        rows += [(name, c.get_short_help_str()) for name, c in sorted(_plugin_commands().items())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _import(target: str) -> click.Command:
    module, _, attribute = target.partition(":")
    command: click.Command = getattr(importlib.import_module(module), attribute)
    return command


def _plugin_commands(*, search: bool = False) -> dict[str, click.Command]:
    """Return the commands of plugins by name.

    Plugins are imported only if there are any that galelb does not bring itself, or if a
    command is searched that the core does not have: help must be quick.
    """
    from galelb.plugins.loading import has_foreign_plugins

    if not search and not has_foreign_plugins():
        return {}
    from galelb.plugins import Plugins

    commands = {str(command.name): command for command in Plugins.discover().commands()}
    return {name: command for name, command in commands.items() if name not in COMMANDS}


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="galelb", prog_name="galelb", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show tracebacks (also GALELB_DEBUG=1).")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """A load balancer: XDP and TC forward in the kernel, Python decides."""
    ctx.ensure_object(dict)["debug"] = debug


def main() -> NoReturn:
    """Run the command line of this process and exit: 0, 1 run time, 2 usage, 3 environment."""
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Run a command line and return its exit code; errors are messages on stderr."""
    state = {"debug": False}
    try:
        result = cli.main(args=list(args), prog_name="galelb", standalone_mode=False, obj=state)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except (GaleError, BaseExceptionGroup) as error:
        if state["debug"] or os.environ.get("GALELB_DEBUG") == "1":
            raise
        return _report(error)
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def _report(error: BaseException) -> int:
    """Print what went wrong, once each; re-raise what is a bug of ours."""
    causes = list(_causes(error))
    if any(isinstance(cause, KeyboardInterrupt) for cause in causes):
        return _INTERRUPTED
    known = [cause for cause in causes if isinstance(cause, GaleError)]
    if len(known) < len(causes):
        raise error
    for message in dict.fromkeys(_message(cause) for cause in known):
        click.echo(_for_reader(message), err=True)
    return known[0].exit_code


def _for_reader(message: str) -> str:
    from galelb.journal import goes_to_journal, prioritised

    return prioritised("error", message) if goes_to_journal(sys.stderr) else message


def _message(error: GaleError) -> str:
    """Return the lines of a file's problems as they are, so that editors can jump to them."""
    return str(error) if isinstance(error, ConfigError) else f"galelb: {error}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    else:
        yield error
