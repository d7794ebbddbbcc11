# SPDX-License-Identifier: Apache-2.0
"""Draws a frame into as many lines and columns as there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Group
from rich.text import Text

from galelb.api.view import UNEXPECTED_REASONS
from galelb.commands.status_tables import STATE_STYLES
from galelb.commands.text import BAD, FAINT, GOOD, WARN, duration, plain
from galelb.top.values import Frame, NodeRow, Rate, ServiceRow

__all__ = ["ASCII", "BLOCKS", "draw", "scaled", "sparkline"]

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.-:=+*#"
_UNITS = ("", "k", "M", "G", "T", "P")
_LEAST_EVENTS = 3
_WIDEST_LINE = 60
_GAP = "  "
_NUMBER = 9
"""Columns of a rate: "999.9k/s" and a space."""


def draw(frame: Frame, width: int, height: int | None = None, levels: str = BLOCKS) -> Group:
    """Return a picture of at most `height` lines, or of everything; each fits into `width`."""
    head = [*_head(frame, width), Text()]
    services, nodes, events = _shares(frame, height, len(head))
    lines = [*head]
    lines += _services(frame.services, services, width, levels)
    lines.append(Text())
    lines += _nodes(frame.nodes, nodes, width, levels)
    if frame.events and events:
        lines.append(Text())
        lines += _events(frame, events)
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        line.no_wrap = True
        line.end = "\n"
    return Group(*lines[:height])


def _shares(frame: Frame, height: int | None, used: int) -> tuple[int, int, int]:
    """Return how many lines services, nodes and events get, without their headings."""
    services, nodes, events = len(frame.services), len(frame.nodes), len(frame.events)
    if height is None:
        return services, max(1, nodes), min(events, 10)
    room = height - used - 4  # two headings, a blank line, and one before the events
    least = min(events, _LEAST_EVENTS)
    room = max(0, room - least)
    services = min(services, max(1, room // 3))
    nodes = min(max(1, nodes), max(1, room - services))
    return services, nodes, least + max(0, min(events - least, room - services - nodes))


def _head(frame: Frame, width: int) -> Iterator[Text]:
    if frame.trouble:
        yield Text(plain(f"No answer, trying again: {frame.trouble}"), f"bold {BAD}")
    elif frame.problem:
        yield Text("NOT forwarding: ", f"bold {BAD}").append(plain(frame.problem), "not bold")
    else:
        yield Text("Forwarding", f"bold {GOOD}")
    right = f"galelb {frame.version}, {frame.instance}, up {duration(frame.uptime_s)}"
    routable = sum(node.takes_new_flows for node in frame.nodes)
    served = sum(service.nodes > 0 for service in frame.services)
    left = f"services {served}/{len(frame.services)}, nodes {routable}/{len(frame.nodes)}, "
    left += f"flows {frame.flows:,}"
    yield _spread(left, right, width)
    lag = f"event loop lag {1000 * frame.lag_s:.1f} ms"
    traffic = "traffic not known yet"
    if frame.total is not None:
        traffic = f"{_packets(frame.total)} packets, {_bits(frame.total)}"
    yield _spread(traffic, lag, width)
    yield _drops(frame)


def _spread(left: str, right: str, width: int) -> Text:
    left, right = plain(left), plain(right)
    gap = " " * max(2, width - cell_len(left) - cell_len(right))
    return Text(left).append(gap + right, FAINT)


def _drops(frame: Frame) -> Text:
    line = Text("dropped: ")
    if not frame.drops:
        return line.append("unknown" if frame.total is None else "nothing", FAINT)
    for position, drop in enumerate(frame.drops):
        line.append(", " if position else "")
        style = BAD if drop.reason in UNEXPECTED_REASONS else WARN
        line.append(f"{plain(drop.reason)} {scaled(drop.per_s)}/s", style)
    return line


def _services(rows: Sequence[ServiceRow], room: int, width: int, levels: str) -> Iterator[Text]:
    shown = rows if len(rows) <= room else sorted(rows, key=_traffic)[: max(1, room - 1)]
    name = _fitting([row.name for row in shown], "SERVICE", width // 4)
    address = _fitting([row.address for row in shown], "ADDRESS", width // 3)
    columns = ("SERVICE", name), ("ADDRESS", address), ("NODES", -5)
    yield _heading(*columns, ("PACKETS", -_NUMBER), ("BITS", -_NUMBER - 2))
    for row in shown:
        line = Text(_cell(row.name, name)).append(_GAP + _cell(row.address, address))
        line.append(_GAP + _cell(str(row.nodes), -5), GOOD if row.nodes else BAD)
        yield _with_traffic(line, row.rate, row.history, width, levels)
    yield from _more(len(rows) - len(shown), "service")


def _nodes(rows: Sequence[NodeRow], room: int, width: int, levels: str) -> Iterator[Text]:
    shown = rows if len(rows) <= room else sorted(rows, key=_urgency)[: max(1, room - 1)]
    name = _fitting([row.name for row in shown], "NODE", width // 3)
    yield _heading(
        ("NODE", name), ("STATE", 11), ("WEIGHT", -6), ("PACKETS", -_NUMBER), ("BITS", -_NUMBER - 2)
    )
    if not rows:
        yield Text("none is configured, and none has reported", WARN)
    for row in shown:
        line = Text(_cell(row.name, name))
        state, style = _state(row)
        line.append(_GAP + _cell(state, 11), style).append(_GAP + _cell(f"{row.weight:g}", -6))
        yield _with_traffic(line, row.rate, row.history, width, levels)
    yield from _more(len(rows) - len(shown), "node")


def _events(frame: Frame, room: int) -> Iterator[Text]:
    for event in frame.events[:room]:
        yield Text(f"{event.at}  ", FAINT).append(plain(event.text), "not dim")


def _more(count: int, noun: str) -> Iterator[Text]:
    if count > 0:
        yield Text(f"and {count} more {noun}{'' if count == 1 else 's'}", FAINT)


def _state(row: NodeRow) -> tuple[str, str]:
    if row.draining:
        return "draining", WARN
    if row.state == "routable" and not row.takes_new_flows:
        return "unused", BAD
    return row.state, STATE_STYLES.get(row.state, "")


def _traffic(row: ServiceRow) -> tuple[bool, float]:
    return row.nodes > 0, -(row.rate.packets if row.rate else 0)


def _urgency(row: NodeRow) -> tuple[bool, float]:
    """When not all fit: first those that are not well, then those with the most traffic."""
    return row.takes_new_flows, -(row.rate.packets if row.rate else 0)


def _heading(*columns: tuple[str, int]) -> Text:
    return Text(_GAP.join(_cell(name, size) for name, size in columns), "bold")


def _with_traffic(
    line: Text, rate: Rate | None, history: Sequence[float | None], width: int, levels: str
) -> Text:
    line.append(_GAP + _cell(_packets(rate), -_NUMBER))
    line.append(_GAP + _cell(_bits(rate), -_NUMBER - 2))
    room = min(_WIDEST_LINE, width - line.cell_len - len(_GAP))
    if room > 0:
        line.append(_GAP).append(sparkline(history, room, levels), "cyan")
    return line


def _fitting(texts: Sequence[str], title: str, most: int) -> int:
    return min(most, max(cell_len(plain(text)) for text in [*texts, title]))


def _cell(text: str, size: int) -> str:
    """Return text of exactly so many columns, right-aligned for a negative size."""
    text = plain(text)
    if cell_len(text) > abs(size):
        return set_cell_size(text, abs(size) - 1) + "~"
    padding = " " * (abs(size) - cell_len(text))
    return padding + text if size < 0 else text + padding


def _packets(rate: Rate | None) -> str:
    return "-" if rate is None else f"{scaled(rate.packets)}/s"


def _bits(rate: Rate | None) -> str:
    return "-" if rate is None else f"{scaled(rate.bits)}bit/s"


def scaled(value: float) -> str:
    """Return a number in about three digits, with a decimal unit."""
    size = 0
    while value >= 999.5 and size < len(_UNITS) - 1:
        value, size = value / 1000, size + 1
    digits = 0 if value >= 99.95 or (size == 0 and value == int(value)) else 1
    return f"{value:.{digits}f}{_UNITS[size]}"


def sparkline(values: Sequence[float | None], width: int, levels: str = BLOCKS) -> str:
    """Return the last `width` values as bars, the latest on the right; a space is unknown.

    The highest one has the highest bar; what is not 0 is never drawn as 0.
    """
    shown = values[-width:] if width > 0 else ()
    most = max((value for value in shown if value is not None), default=0.0)
    return "".join(_bar(value, most, levels) for value in shown).rjust(max(0, width))


def _bar(value: float | None, most: float, levels: str) -> str:
    if value is None:
        return " "
    if value <= 0 or most <= 0:
        return levels[0]
    top = len(levels) - 1
    return levels[max(1, min(top, round(value / most * top)))]
