# SPDX-License-Identifier: Apache-2.0
"""Divides the functions of a text between compilers that work at the same time."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["costs", "only", "split"]

_FUNCTION = re.compile(
    r"^[a-z][\w\s*]*?(?:GALE_FN\((?P<short>\w+)\)|\b(?P<name>\w+))"
    r"\([^;{]*?\)\s*\n\{\n(?P<body>.*?)^\}",
    re.MULTILINE | re.DOTALL,
)
_GLOBAL = re.compile(r"^int (?:GALE_FN\((?P<short>\w+)\)|(?P<name>\w+))\s*\(", re.MULTILINE)
_WORTH = 6000
"""Less than this to compile in a second process is not worth starting and parsing there."""


def split(text: str, functions: Mapping[str, str], most: int) -> list[dict[str, str]]:
    """Divide functions into at most `most` shares that cost about the same to compile."""
    cost = costs(text, functions)
    shares: list[dict[str, str]] = [{} for _ in range(max(1, most))]
    sums = [0] * len(shares)
    for name in sorted(functions, key=lambda name: (-cost[name], name)):
        lightest = sums.index(min(sums))
        shares[lightest][name] = functions[name]
        sums[lightest] += cost[name]
    if len(shares) > 1 and min(sums) < _WORTH:
        return split(text, functions, most - 1)
    return shares


def costs(text: str, functions: Mapping[str, str]) -> dict[str, int]:
    """Return the size of each function with everything that is inlined into it, in characters."""
    kinds = set(functions.values())
    bodies = {
        name: match["body"] for match in _FUNCTION.finditer(text) for name in _names(match, kinds)
    }
    call = re.compile(rf"\b({'|'.join(bodies)})\(") if bodies else None
    known: dict[str, int] = {}

    def size(name: str) -> int:
        if name not in known:
            known[name] = 0  # a function that calls itself is none that BPF can have
            calls = call.findall(bodies[name]) if call is not None else []
            known[name] = len(bodies[name]) + sum(map(size, calls))
        return known[name]

    return {name: size(name) if name in bodies else 0 for name in functions}


def only(text: str, share: Mapping[str, str], kinds: set[str]) -> str:
    """Return the text in which every other program is unused, so that nothing is emitted.

    `kinds` are those of all programs ("xdp", "tc"). Lines keep their numbers.
    """

    def hide(match: re.Match[str]) -> str:
        wanted = share.keys() & _names(match, kinds)
        return match.group() if wanted else f"static inline {match.group()}"

    return _GLOBAL.sub(hide, text)


def _names(match: re.Match[str], kinds: set[str]) -> set[str]:
    """Return what a definition may be called: GALE_FN(x) depends on the kind of program."""
    if match["name"] is not None:
        return {match["name"]}
    return {f"gale_{kind}_{match['short']}" for kind in kinds}
