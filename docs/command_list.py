# SPDX-License-Identifier: Apache-2.0
"""Every command of galelb with its arguments and options, for the reference and manual pages."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import click

from galelb.cli import COMMANDS, cli


@attrs.frozen
class Entry:
    """A command, or one below a command."""

    name: str
    """As it is typed after `galelb`."""
    command: click.Command

    @property
    def options(self) -> list[click.Option]:
        """Return its options, hidden ones left out."""
        every = [param for param in self.command.params if isinstance(param, click.Option)]
        return [option for option in every if not option.hidden]


def entries(name: str) -> list[Entry]:
    """Return a command and all below it."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return list(_walk(name, command))


def every_entry() -> list[Entry]:
    """Return all commands of the core, in the order of the help."""
    return [entry for name in COMMANDS for entry in entries(name)]


def _walk(name: str, command: click.Command) -> Iterator[Entry]:
    yield Entry(name, command)
    if isinstance(command, click.Group):
        context = click.Context(command)
        for inner in command.list_commands(context):
            below = command.get_command(context, inner)
            assert below is not None
            yield from _walk(f"{name} {inner}", below)


def usage_words(command: click.Command) -> list[str]:
    """Return what the usage line has after the name: [OPTIONS] NODE and so on."""
    return command.collect_usage_pieces(click.Context(command))


def option_names(option: click.Option) -> str:
    """Return the spellings of an option, and what stands for its value."""
    names = ", ".join([*option.opts, *option.secondary_opts])
    if option.is_flag or option.count:
        return names
    return f"{names} {option.make_metavar(click.Context(click.Command('x')))}"


def plain(text: str) -> str:
    """Return help text without what only click understands."""
    return text.replace("\b", "").strip()


def options_table(entry: Entry) -> str:
    """Return the options of a command as a Markdown table."""
    rows = ["| option | meaning |", "|---|---|"]
    for option in entry.options:
        about = plain(option.help or "").replace("|", "\\|").replace("\n", " ")
        names = option_names(option).replace("|", "\\|")
        rows.append(f"| `{names}` | {about} |")
    return "\n".join(rows) + "\n"


def command_reference() -> str:
    """Return every command with its usage, its help and its options."""
    parts = []
    for entry in every_entry():
        usage = " ".join(["galelb", entry.name, *usage_words(entry.command)])
        level = "###" if " " in entry.name else "##"
        table = f"\n{options_table(entry)}" if entry.options else ""
        help_text = plain(entry.command.help or "")
        heading = f"{level} galelb {entry.name}\n\n```text\n{usage}\n```\n\n"
        parts.append(f"{heading}{help_text}\n{table}")
    return "\n".join(parts)
