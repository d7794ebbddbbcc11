# SPDX-License-Identifier: Apache-2.0
"""Small pieces of text for people: numbers, sizes, times, addresses, tables."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

__all__ = [
    "BAD",
    "FAINT",
    "GOOD",
    "WARN",
    "amount",
    "columns",
    "duration",
    "endpoint",
    "plain",
    "plural",
    "size",
    "styled",
    "times",
]


GOOD, WARN, BAD, FAINT = "green", "yellow", "red", "dim"


def columns(*names: str) -> Table:
    """Return an empty table; a column name that starts with > is right-aligned."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in names:
        name = column.removeprefix(">")
        # What one compares or copies stays whole; a note may go over several lines.
        table.add_column(
            name,
            justify="right" if column.startswith(">") else "left",
            no_wrap=name != "NOTE",
            overflow="fold",
        )
    return table


def endpoint(address: str, port: int, protocol: str = "") -> str:
    """Return ADDRESS:PORT, with brackets around IPv6, and /PROTOCOL when it is given."""
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{port}" + (f"/{protocol}" if protocol else "")


def styled(text: str, style: str = "") -> Text:
    """Return text that is safe to print, in one style."""
    return Text(plain(text), style)


def plain(text: str) -> str:
    """Return text without what could steer a terminal: names and reasons come from nodes."""
    return "".join(c if c.isprintable() else "?" for c in text)


def amount(number: int) -> Text:
    """Return a number with thousands separators."""
    return Text(f"{number:,}")


def size(value: float) -> Text:
    """Return bytes with a decimal unit, in about three digits."""
    unit = "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    digits = 0 if unit == "B" or value >= 99.95 else 1
    return Text(f"{value:,.{digits}f} {unit}")


def duration(seconds: float) -> str:
    """Return a time in its two largest units."""
    if seconds < 60:
        return f"{seconds:.0f}s" if seconds >= 10 else f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {rest}s"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def times(count: int) -> str:
    """Return how often something happened."""
    return "once" if count == 1 else f"{count} times"
