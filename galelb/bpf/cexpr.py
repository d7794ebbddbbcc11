# SPDX-License-Identifier: Apache-2.0
"""Integer expressions of the C preprocessor, evaluated in Python."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

__all__ = ["ExpressionError", "evaluate", "expand"]

_TOKEN = re.compile(
    r"\s*(?:(0[xX][0-9a-fA-F]+|\d+)[uUlL]*|([A-Za-z_]\w*)|(<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>?:()]))"
)
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_MAX_DEPTH = 32

_BINARY: dict[str, tuple[int, Callable[[int, int], int]]] = {
    "||": (1, lambda a, b: int(bool(a) or bool(b))),
    "&&": (2, lambda a, b: int(bool(a) and bool(b))),
    "|": (3, lambda a, b: a | b),
    "^": (4, lambda a, b: a ^ b),
    "&": (5, lambda a, b: a & b),
    "==": (6, lambda a, b: int(a == b)),
    "!=": (6, lambda a, b: int(a != b)),
    "<": (7, lambda a, b: int(a < b)),
    ">": (7, lambda a, b: int(a > b)),
    "<=": (7, lambda a, b: int(a <= b)),
    ">=": (7, lambda a, b: int(a >= b)),
    "<<": (8, lambda a, b: a << min(b, 64)),
    ">>": (8, lambda a, b: a >> b),
    "+": (9, lambda a, b: a + b),
    "-": (9, lambda a, b: a - b),
    "*": (10, lambda a, b: a * b),
    "/": (10, lambda a, b: a // b),
    "%": (10, lambda a, b: a % b),
}
_UNARY: dict[str, Callable[[int], int]] = {
    "-": lambda a: -a,
    "+": lambda a: a,
    "~": lambda a: ~a,
    "!": lambda a: int(not a),
}


class ExpressionError(ValueError):
    """The text is not an integer expression; `str(error)` says why."""


def expand(text: str, macros: Mapping[str, str], depth: int = 0) -> str:
    """Replace object-like macros in a text, again and again until none is left."""
    if depth > _MAX_DEPTH:
        raise ExpressionError(f"macros in {text[:60]!r} name each other")

    def replace(match: re.Match[str]) -> str:
        name = match.group()
        return expand(macros[name], macros, depth + 1) if name in macros else name

    return _IDENTIFIER.sub(replace, text)


def evaluate(text: str, macros: Mapping[str, str], *, unknown: int | None = None) -> int:
    """Return the value of an expression.

    An identifier that is no macro counts as `unknown` (the rule of `#if` is 0); with None it
    raises ExpressionError, as does anything that is no integer expression.
    """
    expanded = expand(text, macros)
    parser = _Parser(_tokens(expanded, unknown), text)
    try:
        return parser.whole()
    except ZeroDivisionError:
        raise ExpressionError(f"division by zero in {text!r}") from None


def _tokens(text: str, unknown: int | None) -> list[str]:
    tokens: list[str] = []
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise ExpressionError(f"{text[position:].strip()!r} is no integer expression")
        number, name, sign = match.groups()
        if name is not None and unknown is None:
            raise ExpressionError(f"unknown macro {name}")
        tokens.append(sign or str(_number(number) if number else unknown))
        position = match.end()
    return tokens


def _number(text: str) -> int:
    octal = len(text) > 1 and text.isdigit() and text.startswith("0")
    try:
        return int(text, 8 if octal else 0)
    except ValueError:
        raise ExpressionError(f"{text!r} is no octal number") from None


class _Parser:
    """Precedence climbing over a token list."""

    def __init__(self, tokens: list[str], source: str) -> None:
        self._tokens = tokens
        self._source = source
        self._at = 0

    def whole(self) -> int:
        value = self._conditional()
        if self._at != len(self._tokens):
            raise self._error()
        return value

    def _error(self) -> ExpressionError:
        return ExpressionError(f"{self._source.strip()!r} is no integer expression")

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise self._error()

    def _conditional(self) -> int:
        condition = self._binary(1)
        if self._peek() != "?":
            return condition
        self._next()
        yes = self._conditional()
        self._expect(":")
        no = self._conditional()
        return yes if condition else no

    def _binary(self, lowest: int) -> int:
        left = self._unary()
        while (entry := _BINARY.get(self._peek())) is not None and entry[0] >= lowest:
            self._next()
            left = entry[1](left, self._binary(entry[0] + 1))
        return left

    def _unary(self) -> int:
        token = self._next()
        if token in _UNARY:
            return _UNARY[token](self._unary())
        if token == "(":  # noqa: S105 - a parenthesis
            value = self._conditional()
            self._expect(")")
            return value
        if not token.isdigit():
            raise self._error()
        return int(token)
