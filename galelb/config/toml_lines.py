# SPDX-License-Identifier: Apache-2.0
"""Finds the line of every key of a TOML text, which tomli does not tell.

The text must be valid TOML (tomli has read it); this walks its tokens and remembers where each
key path begins. Array elements are paths as well: `("services", 0, "vip")`.
"""

from __future__ import annotations

import bisect
import re
from typing import Any

import tomli

__all__ = ["KeyPath", "key_lines", "line_of"]

KeyPath = tuple[str | int, ...]

_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:\\.|[^"\\])*"' r"|'[^']*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\r\n]*")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line (from 1) of the first mention of each key path and array element."""
    finder = _Finder(text)
    finder.document()
    return finder.lines


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """Return the line of a path, or of the nearest table around it, or 1."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


class _Finder:
    """One walk over one text. Everything advances, so it ends on any input."""

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self._arrays: dict[KeyPath, int] = {}

    def document(self) -> None:
        table: KeyPath = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)

    def _header(self) -> KeyPath:
        many = self._text.startswith("[[", self._at)
        start = self._at
        self._at += 2 if many else 1
        path: KeyPath = ()
        keys = self._keys()
        for key in keys:
            path = self._element((*path, key), start)
        if many:
            path = self._new_element(path, start)
        self._at += 2 if many else 1
        return path

    def _element(self, path: KeyPath, start: int) -> KeyPath:
        """Return the path, in the newest element if it is an array of tables."""
        self._note(path, start)
        return (*path, self._arrays[path]) if path in self._arrays else path

    def _new_element(self, path: KeyPath, start: int) -> KeyPath:
        array = path[:-1] if isinstance(path[-1], int) else path
        self._arrays[array] = self._arrays.get(array, -1) + 1
        path = (*array, self._arrays[array])
        self._note(path, start)
        return path

    def _pair(self, table: KeyPath) -> None:
        start = self._at
        path = table
        for key in self._keys():
            path = (*path, key)
            self._note(path, start)
        self._at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(path)

    def _keys(self) -> list[str]:
        keys = []
        while True:
            self._skip(_SPACE)
            keys.append(self._key())
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1

    def _key(self) -> str:
        quoted = _STRING.match(self._text, self._at)
        if quoted:
            self._at = quoted.end()
            return _unquoted(quoted[0])
        start = self._at
        self._skip(_BARE)
        self._at = max(self._at, start + 1)
        return self._text[start : self._at]

    def _value(self, path: KeyPath) -> None:
        string = _STRING.match(self._text, self._at)
        if string:
            self._at = string.end()
        elif self._text.startswith("[", self._at):
            self._array(path)
        elif self._text.startswith("{", self._at):
            self._inline_table(path)
        else:
            self._skip(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while self._more("]"):
            element = (*path, index)
            start = self._at
            self._note(element, start)
            self._value(element)
            self._at = max(self._at, start + 1)  # only ever needed for text that is not TOML
            index += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while self._more("}"):
            self._pair(path)

    def _more(self, end: str) -> bool:
        """Step over blanks and commas; False after the closing bracket or at the end."""
        self._skip(_BLANK)
        while self._text.startswith(",", self._at):
            self._at += 1
            self._skip(_BLANK)
        if self._at >= len(self._text):
            return False
        if self._text[self._at] == end:
            self._at += 1
            return False
        return True

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        if match:
            self._at = match.end()

    def _note(self, path: KeyPath, at: int) -> None:
        self.lines.setdefault(path, bisect.bisect_left(self._newlines, at) + 1)


def _unquoted(key: str) -> str:
    parsed: dict[str, Any] = tomli.loads(f"{key} = 0")
    return next(iter(parsed))
