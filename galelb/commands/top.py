# SPDX-License-Identifier: Apache-2.0
"""`galelb top`: a live picture of a balancer on a terminal."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galelb.commands.options import api_option, config_option, token_file_option

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from galelb.client import ApiClient
    from galelb.top.feed import Feed
    from galelb.top.meter import Meter
    from galelb.top.terminal import Terminal

__all__ = ["top_command"]

_QUIT = set("qQ\x03")
_PIPE_WIDTH = 100
_SILENT_S = 3.0
"""After this long without an answer, at least, the picture says that it is old."""


@click.command("top")
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 60),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--once", is_flag=True, help="Print one picture, of one interval, and end.")
@api_option
@config_option
@token_file_option
def top_command(
    *,
    interval: float,
    once: bool,
    api: str | None,
    config: Path | None,
    token_file: Path | None,
) -> None:
    """Watch a balancer: services, nodes and drops per second, flows, what happens. q quits.

    A balancer that goes away is asked until it is back.
    """
    from rich.console import Console

    from galelb.client import open_client

    console = Console(highlight=False, markup=False, emoji=False)
    if not (once or console.is_terminal):
        raise click.UsageError("top needs a terminal; --once prints one picture anywhere")
    client = open_client(api, config=config, token_file=token_file)
    if once:
        with client:
            _once(client, interval)
    else:
        _watch(client, interval, console)


def _once(client: ApiClient, interval: float) -> None:
    from galelb.commands.status_tables import print_view
    from galelb.top.feed import fetch
    from galelb.top.meter import Meter
    from galelb.top.view import draw

    meter = Meter()
    meter.take(fetch(client))
    time.sleep(interval)
    frame = meter.take(fetch(client))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_WIDTH
    print_view(draw(frame, width, levels=_levels(sys.stdout.encoding)))


def _watch(client: ApiClient, interval: float, console: Console) -> None:
    from rich.live import Live

    from galelb.top.feed import Feed, fetch, running
    from galelb.top.meter import Meter
    from galelb.top.terminal import opened_terminal

    meter = Meter()
    with contextlib.ExitStack() as stack:
        stack.enter_context(client)
        meter.take(fetch(client))  # so that a wrong address is an error, as with other commands
        stack.pop_all()  # from here on the feed closes it
    live = Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop")
    with opened_terminal() as terminal:
        feed = Feed(client, interval, terminal.wake)
        try:
            with running(feed), live:
                for picture in _pictures(feed, meter, terminal, console):
                    live.update(picture, refresh=True)
        except KeyboardInterrupt:
            pass  # as q


def _pictures(
    feed: Feed, meter: Meter, terminal: Terminal, console: Console
) -> Iterator[RenderableType]:
    """Yield a picture whenever there is something new, and every second; ends with q."""
    from galelb.top.values import Sample
    from galelb.top.view import draw

    heard = time.monotonic()
    silent_s = max(_SILENT_S, 3 * feed.interval_s)
    while True:
        outcome = feed.take()
        if outcome is not None:
            heard = time.monotonic()
        if isinstance(outcome, Sample):
            meter.take(outcome)
        elif outcome is not None:
            meter.lost(str(outcome))
        elif time.monotonic() - heard > silent_s:
            meter.lost(f"no answer for {time.monotonic() - heard:.0f} s")
        assert meter.frame is not None
        yield draw(meter.frame, *console.size, levels=_levels(console.encoding))
        if _QUIT & set(terminal.wait(1.0)):
            return


def _levels(encoding: str) -> str:
    from galelb.top.view import ASCII, BLOCKS

    return BLOCKS if encoding.lower().startswith("utf") else ASCII
