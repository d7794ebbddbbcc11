# SPDX-License-Identifier: Apache-2.0
"""The shape of a C type as text: what must be equal for a pinned map to be used again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from galelb.bpf.cexpr import ExpressionError, evaluate, expand

__all__ = ["Shapes"]

_TAGGED = re.compile(r"\b(struct|union|enum)\s+(\w+)\s*(?:__\w+\s*)?\{")
_TYPEDEF = re.compile(r"\btypedef\s+([^;{}]+?)\s*\b(\w+)\s*(\[[^;]*\])?\s*;")
_REFERENCE = re.compile(r"\b(?:(struct|union|enum)\s+)?([A-Za-z_]\w*)")
_SIZE = re.compile(r"\[([^\[\]]*)\]")
_ATTRIBUTE = re.compile(r"[^;]*")


class Shapes:
    """Definitions of structs, unions, enums and plain typedefs, found in active lines."""

    def __init__(self, lines: Iterable[str], macros: Mapping[str, str]) -> None:
        self._macros = dict(macros)
        text = "\n".join(lines)
        self._definitions = dict(_tagged(text))
        for match in _TYPEDEF.finditer(text):
            self._definitions[match.group(2)] = f"{match.group(1)}{match.group(3) or ''}"

    def of(self, type_text: str) -> str:
        """Return the type with every definition that it rests on, without comments or macros.

        A type that the composition does not define (u32 and the like) stands for itself.
        """
        seen: dict[str, str] = {}
        self._collect(self._normal(type_text), seen)
        details = "".join(f"\n{name}={seen[name]}" for name in sorted(seen))
        return self._normal(type_text) + details

    def _collect(self, text: str, seen: dict[str, str]) -> None:
        for kind, name in _REFERENCE.findall(text):
            key = f"{kind} {name}".strip()
            if key in self._definitions and key not in seen:
                seen[key] = self._normal(self._definitions[key])
                self._collect(seen[key], seen)

    def _normal(self, text: str) -> str:
        try:
            text = expand(text, self._macros)
        except ExpressionError:
            return " ".join(text.split())
        return " ".join(_SIZE.sub(self._size, text).split())

    def _size(self, match: re.Match[str]) -> str:
        try:
            return f"[{evaluate(match.group(1), self._macros)}]"
        except ExpressionError:
            return match.group()


def _tagged(text: str) -> Iterable[tuple[str, str]]:
    for match in _TAGGED.finditer(text):
        end = _closing_brace(text, match.end())
        tail = _ATTRIBUTE.match(text, end)
        yield (
            f"{match.group(1)} {match.group(2)}",
            text[match.end() : end] + (tail.group() if tail else ""),
        )


def _closing_brace(text: str, position: int) -> int:
    depth = 1
    for at in range(position, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return at
    return len(text)
