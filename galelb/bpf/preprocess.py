# SPDX-License-Identifier: Apache-2.0
"""Just enough of a C preprocessor to know which lines of a composition clang will see."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import attrs

from galelb.bpf.cexpr import ExpressionError, evaluate
from galelb.errors import CompileError

__all__ = ["Line", "Preprocessor", "blank_comments"]

_SPAN = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)
_DIRECTIVE = re.compile(r"^\s*#\s*(\w+)\s*(.*)$", re.DOTALL)
_DEFINE = re.compile(r"^([A-Za-z_]\w*)(\()?(.*)$", re.DOTALL)
_DEFINED = re.compile(r"\bdefined\s*(?:\(\s*(\w+)\s*\)|(\w+))")


def blank_comments(text: str) -> str:
    """Replace comments by spaces; strings, line breaks and columns stay."""

    def blank(match: re.Match[str]) -> str:
        span = match.group()
        return re.sub(r"[^\n]", " ", span) if span.startswith("/") else span

    return _SPAN.sub(blank, text)


@attrs.frozen
class Line:
    """One line that is not switched off, without comments."""

    part: str
    number: int
    text: str


@attrs.define
class _Branch:
    """One open `#if`: whether its current branch is on, and whether one was on already."""

    outer: bool
    on: bool
    taken: bool


class Preprocessor:
    """Follows conditionals and object-like macros through the parts, in order."""

    def __init__(self, defines: Mapping[str, str]) -> None:
        self.macros: dict[str, str] = {}
        self._functions: set[str] = set()
        self._branches: list[_Branch] = []
        for name, value in defines.items():
            self._define(f"{name} {value}")

    def lines(self, part: str, text: str) -> Iterator[Line]:
        """Yield the active lines of a part; directives take effect as they pass.

        Raises CompileError for a condition that cannot be evaluated or is not closed.
        """
        for number, line in _logical_lines(blank_comments(text)):
            match = _DIRECTIVE.match(line)
            if match is None:
                if self._active():
                    yield Line(part, number, line)
                continue
            try:
                self._directive(match.group(1), match.group(2).replace("\\\n", " ").strip())
            except ExpressionError as error:
                raise CompileError(f"{part}:{number}: {error}") from None
        if self._branches:
            raise CompileError(f"{part}: an #if is not closed by #endif")

    def _active(self) -> bool:
        return all(branch.on for branch in self._branches[-1:])

    def _directive(self, word: str, rest: str) -> None:
        if word in ("if", "ifdef", "ifndef"):
            outer = self._active()
            on = outer and self._condition(word, rest)
            self._branches.append(_Branch(outer, on, on))
        elif word in ("elif", "else", "endif"):
            self._continue(word, rest)
        elif self._active() and word == "define":
            self._define(rest)
        elif self._active() and word == "undef":
            self.macros.pop(rest, None)
            self._functions.discard(rest)

    def _continue(self, word: str, rest: str) -> None:
        if not self._branches:
            raise ExpressionError(f"#{word} without #if")
        branch = self._branches[-1]
        if word == "endif":
            self._branches.pop()
            return
        open_ = branch.outer and not branch.taken
        branch.on = open_ and (word == "else" or self._condition("if", rest))
        branch.taken = branch.taken or branch.on

    def _known(self, name: str) -> bool:
        return name in self.macros or name in self._functions

    def _condition(self, word: str, rest: str) -> bool:
        if word != "if":
            return self._known(rest.split()[0] if rest else "") == (word == "ifdef")

        def defined(match: re.Match[str]) -> str:
            return str(int(self._known(match.group(1) or match.group(2))))

        return bool(evaluate(_DEFINED.sub(defined, rest), self.macros, unknown=0))

    def _define(self, rest: str) -> None:
        match = _DEFINE.match(rest)
        if match is None:
            raise ExpressionError(f"#define {rest[:40]!r} has no name")
        name, parameters, body = match.groups()
        if parameters:
            self._functions.add(name)
        else:
            self.macros[name] = body.strip()


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines with their number; a directive continued by backslashes is one line."""
    pending: list[str] = []
    start = 0
    for number, line in enumerate(text.split("\n"), start=1):
        start = start if pending else number
        continued = line.rstrip().endswith("\\") and (pending or line.lstrip().startswith("#"))
        pending.append(line)
        if not continued:
            yield start, "\n".join(pending)
            pending = []
    if pending:
        yield start, "\n".join(pending)
