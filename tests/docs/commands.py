# SPDX-License-Identifier: Apache-2.0
"""Finds commands of galelb in pages, and lets click parse them without running any."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import attrs
import click

from galelb.cli import cli

from .pages import blocks

_SHELL = {"", "console", "sh"}
_LINE = re.compile(r"^\s*(?:\$ |# )?(?:\./dev )?(galelb -{0,2}[a-z].*)$")
_INLINE = re.compile(r"(?<!`)`(?:\./dev )?(galelb -{0,2}[a-z][^`]*)`(?!`)")
_VARIABLE = re.compile(r'^(\w+)="([^"]*)"', re.MULTILINE)
_FENCES = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_ENDS = ("|", ";", "&", "&&", "||", ">", ">>", "<", "2>")


@attrs.frozen
class Shown:
    """A command as a page shows it."""

    text: str
    words: tuple[str, ...]
    whole: bool
    """Whether it can be typed as it stands: else its arguments may be left out."""


def shown(page: Path) -> Iterator[Shown]:
    """Every command of a page: lines of blocks, and what is marked as code in the text."""
    text = page.read_text()
    variables = dict(_VARIABLE.findall(text))
    for block in blocks(page):
        if block.language in _SHELL:
            for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
                if match := _LINE.match(line):
                    yield from _commands(match[1], variables, whole=True)
    for match in _INLINE.finditer(_FENCES.sub("", text)):
        yield from _commands(" ".join(match[1].split()), variables, whole=False)


def _commands(line: str, variables: dict[str, str], *, whole: bool) -> Iterator[Shown]:
    for name, value in variables.items():
        line = line.replace(f"${name}", value)
    synopsis = "[" in line or "..." in line or " | " in line
    lexer = shlex.shlex(re.sub(r"\[|\]|\.\.\.", " ", line), posix=True, punctuation_chars=";&|<>")
    lexer.commenters, lexer.whitespace_split = "#", True
    command: list[str] = []
    for word in [*lexer, ";"]:
        if word not in _ENDS:
            command.append(word)
            continue
        if command[:1] == ["galelb"]:
            yield Shown(line, tuple(command[1:]), whole=whole and not synopsis)
        command = []


def problem(one: Shown) -> str | None:
    """What click has against a command, or None. No command runs."""
    try:
        _parse(cli, list(one.words), None)
    except (click.MissingParameter, click.exceptions.NoArgsIsHelpError) as error:
        return f"{one.text}: {error}" if one.whole else None
    except click.BadParameter as error:
        # A file that only the reader has, or a word in capitals that stands for a value.
        return None if "does not exist" in str(error) or not one.whole else f"{one.text}: {error}"
    except click.ClickException as error:
        return f"{one.text}: {error}"
    except click.exceptions.Exit:  # of --help and --version
        return None
    return None


def _parse(command: click.Command, words: list[str], parent: click.Context | None) -> None:
    context = command.make_context(command.name or "galelb", words, parent=parent)
    if not isinstance(command, click.Group):
        return
    rest = [*context._protected_args, *context.args]
    if rest:
        _, inner, left = command.resolve_command(context, rest)
        assert inner is not None
        _parse(inner, left, context)
