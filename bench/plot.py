# SPDX-License-Identifier: Apache-2.0
"""Draws how a cost grows: lines of medians with bands from the least to the most (matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import attrs
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

__all__ = ["Panel", "Point", "draw", "save"]

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_MARKERS = "osD^vP"
_DPI = 150


@attrs.frozen(kw_only=True)
class Point:
    """How much there was of what grows (1 or more), and nanoseconds of several rounds."""

    at: float
    least: float
    median: float
    most: float


@attrs.frozen(kw_only=True)
class Panel:
    """One diagram: what grows, what stays as it is, and lines by name."""

    grows: str
    fixed: str
    lines: Mapping[str, Sequence[Point]]


def draw(title: str, note: str, panels: Sequence[Panel]) -> Figure:
    """Return diagrams beside one another, with one scale upwards and one look for each name."""
    figure = Figure(figsize=(4.8 * len(panels), 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=15, fontweight="bold")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    names = dict.fromkeys(name for panel in panels for name in panel.lines)
    looks = dict(zip(names, cycle(zip(_COLOURS, _MARKERS, strict=True)), strict=False))
    for one, panel in zip(axes, panels, strict=True):
        _draw_panel(one, panel, looks)
    axes[0].set_ylabel("beyond the floor, ns per packet")
    axes[0].set_ylim(bottom=0)
    handles = {
        label: handle
        for one in axes
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True)
    }
    axes[0].legend(list(handles.values()), list(handles), loc="upper left", framealpha=0.9)
    figure.supxlabel(note, fontsize=8.5, color="#555555")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=_DPI)


def _draw_panel(axes: Axes, panel: Panel, looks: Mapping[str, tuple[str, str]]) -> None:
    for name, points in panel.lines.items():
        colour, marker = looks[name]
        at = [one.at for one in points]
        axes.plot(at, [one.median for one in points], color=colour, marker=marker, ms=5, label=name)
        least, most = [one.least for one in points], [one.most for one in points]
        axes.fill_between(at, least, most, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.minorticks_off()
    axes.set_xlabel(f"number of {panel.grows}")
    axes.set_title(f"{panel.grows} ({panel.fixed})", fontsize=11)
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
