# SPDX-License-Identifier: Apache-2.0
"""Draws lines over logarithmic axes as SVG, with nothing but text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import cycle

import attrs

__all__ = ["Panel", "draw"]

_COLOURS = ("#1f5fa8", "#c0392b", "#2c8a4b", "#8e5ab5", "#b7791f")
_WIDTH, _HEIGHT = 380, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 34, 110
_STEPS = 5
_STYLE = (
    "text{font:12px sans-serif;fill:#222}.t{font-weight:bold}.e{text-anchor:end}"
    ".m{text-anchor:middle}.g{stroke:#ddd}.l{fill:none;stroke-width:2}"
)


@attrs.frozen(kw_only=True)
class Panel:
    """One diagram: what grows, and lines of (how much of it, value) by name."""

    title: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


def draw(title: str, panels: Sequence[Panel]) -> str:
    """Return an SVG document of diagrams beside one another, all with one scale upwards.

    Lines whose names are the same up to a comma have one colour.
    """
    kinds = dict.fromkeys(_kind(name) for panel in panels for name in panel.lines)
    colours = dict(zip(kinds, cycle(_COLOURS), strict=False))
    top = _round_up(max(y for one in panels for points in one.lines.values() for _, y in points))
    width, height = _WIDTH * len(panels), _TOP + _HEIGHT + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">',
        f'<style>{_STYLE}</style><rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text class="t" x="{_LEFT}" y="20">{escape(title)}</text>',
    ]
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate({number * _WIDTH} {_TOP})">')
        parts += [*_axes(panel, top), *_lines(panel, top, colours), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _axes(panel: Panel, top: float) -> Iterator[str]:
    right = _WIDTH - _RIGHT
    for step in range(_STEPS + 1):
        value = top * step / _STEPS
        y = _y(value, top)
        yield f'<line class="g" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="e" x="{_LEFT - 6}" y="{y + 4:.1f}">{value:g}</text>'
    for power in range(_decades(panel) + 1):
        x = _x(10**power, panel)
        yield f'<line class="g" x1="{x:.1f}" x2="{x:.1f}" y1="10" y2="{_HEIGHT}"/>'
        yield f'<text class="m" x="{x:.1f}" y="{_HEIGHT + 16}">{_short(power)}</text>'
    middle = (_LEFT + right) / 2
    yield f'<text class="m t" x="{middle}" y="{_HEIGHT + 34}">{escape(panel.title)}</text>'


def _lines(panel: Panel, top: float, colours: Mapping[str, str]) -> Iterator[str]:
    for number, (name, points) in enumerate(panel.lines.items()):
        colour = colours[_kind(name)]
        places = [(_x(x, panel), _y(y, top)) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<polyline class="l" stroke="{colour}" points="{path}"/>'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places)
        y = _HEIGHT + 52 + 15 * number
        yield f'<rect x="{_LEFT}" y="{y - 9}" width="10" height="10" fill="{colour}"/>'
        yield f'<text x="{_LEFT + 16}" y="{y}">{escape(name)}</text>'


def _kind(name: str) -> str:
    return name.partition(",")[0]


def _x(value: float, panel: Panel) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * math.log10(value) / _decades(panel)


def _y(value: float, top: float) -> float:
    return _HEIGHT - (_HEIGHT - 10) * max(value, 0.0) / top


def _decades(panel: Panel) -> int:
    """Return how many powers of ten the axis to the right has, from 1 on."""
    most = max(x for points in panel.lines.values() for x, _ in points)
    return max(1, math.ceil(math.log10(most) - 1e-9))


def _short(power: int) -> str:
    thousands, rest = divmod(power, 3)
    return f"{10**rest}{('', 'k', 'M', 'G')[thousands]}"


def _round_up(value: float) -> float:
    """Return 1, 2 or 5 times a power of ten, not below a value."""
    power = 10.0 ** math.floor(math.log10(max(value, 1.0)))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= value)
