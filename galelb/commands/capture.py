# SPDX-License-Identifier: Apache-2.0
"""`galelb capture`: live traffic as the programs see it, before and after."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from galelb.api.limits import (
    DEFAULT_SECONDS,
    DEFAULT_SNAPLEN,
    MAX_COUNT,
    MAX_SECONDS,
    MAX_SNAPLEN,
    MIN_SNAPLEN,
)
from galelb.commands.options import api_option, config_option, token_file_option
from galelb.commands.text import plain, plural
from galelb.errors import ConfigError, GaleError

if TYPE_CHECKING:
    from galelb.capture.show import Packet

__all__ = ["capture_command"]

STDOUT = "-"

Sink = Callable[[bytes], None]
Show = Callable[["Packet"], None]


@click.command("capture")
@click.option("--service", metavar="NAME", help="Only packets of this service.")
@click.option("--node", metavar="NODE", help="Only packets to or from this node (address or name).")
@click.option("--all", "everything", is_flag=True, help="Also what belongs to no service.")
@click.option("--dropped", is_flag=True, help="Only packets that are dropped.")
@click.option("--out", metavar="FILE", help="Write pcapng to FILE, or to stdout with -.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per packet.")
@click.option("--count", type=click.IntRange(1, MAX_COUNT), help="End after so many packets.")
@click.option(
    "--seconds",
    type=click.IntRange(1, MAX_SECONDS),
    default=DEFAULT_SECONDS,
    show_default=True,
    help="End after this time.",
)
@click.option(
    "--snaplen",
    type=click.IntRange(MIN_SNAPLEN, MAX_SNAPLEN),
    default=DEFAULT_SNAPLEN,
    show_default=True,
    help="Bytes to keep of each frame.",
)
@api_option
@config_option
@token_file_option
def capture_command(
    *,
    out: str | None,
    as_json: bool,
    api: str | None,
    config: Path | None,
    token_file: Path | None,
    **wish: str | int | bool | None,
) -> None:
    """Show live traffic: each packet as it came and as it leaves, and why.

    tcpdump on a balancer does not see this: XDP forwards and drops before it. Without --out it
    prints a line per packet; with it, it writes pcapng for tcpdump -r, tshark and Wireshark,
    every frame with its verdict, reason, service and node as a comment. Ctrl-C ends it.

    While it runs the balancer forwards by programs that copy packets, and no other capture can
    run. At most 10,000 packets per second are captured; others are forwarded and counted as lost.
    """
    from galelb.client import open_client

    if out is not None and as_json:
        raise click.UsageError("--json prints packets, --out writes them: choose one")
    if wish["service"] is not None and wish["everything"]:
        raise click.UsageError("--all means packets of no service, too: leave out --service")
    with _sink(out) as sink, open_client(api, config=config, token_file=token_file) as client:
        show = None if sink else _print_json if as_json else _print_line
        with client.capture(**wish) as parts:
            _say("capturing; Ctrl-C ends it")
            _run(parts, sink, show)


@contextlib.contextmanager
def _sink(out: str | None) -> Iterator[Sink | None]:
    """Open what pcapng goes to; None when lines are to be printed."""
    if out is None:
        yield None
    elif out == STDOUT:
        if sys.stdout.isatty():
            raise click.UsageError("--out - writes binary data: send it to a file or a program")
        yield _writer(sys.stdout.buffer)
    else:
        with _file(Path(out)) as file:
            yield _writer(file)


@contextlib.contextmanager
def _file(path: Path) -> Iterator[BinaryIO]:
    """Open a file whose content is replaced by the first write, and stays when there is none."""
    existed = path.exists()
    try:
        file = path.open("ab")
    except OSError as error:
        raise ConfigError([f"--out {path}: {error.strerror}"]) from None
    try:
        with file:
            yield file
    finally:
        if not existed and path.is_file() and not path.stat().st_size:
            path.unlink()


def _writer(file: BinaryIO) -> Sink:
    """Return what writes parts to a file, the first one in place of what is there."""
    former = file.seekable()

    def write(part: bytes) -> None:
        nonlocal former
        if former:
            file.truncate(0)
            former = False
        file.write(part)
        file.flush()  # for who reads along, and so that nothing is missing whatever happens

    return write


def _run(parts: Iterator[bytes], sink: Sink | None, show: Show | None) -> None:
    """Take parts until they end, the user ends it, or nobody reads what we write."""
    from galelb.capture.pcapng import Reader
    from galelb.capture.show import Pairs

    reader, pairs = Reader(), Pairs()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for part in parts:
            if sink is not None:
                sink(part)
            for packet in pairs.take(reader.feed(part), reader.interfaces):
                if show is not None:
                    show(packet)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # Python would complain again when it flushes at its end.
        sys.stdout = None
    except OSError as error:
        raise GaleError(f"cannot write what is captured: {error.strerror}") from None
    finally:
        lost = pairs.statistics.lost
        _say(f"{plural(pairs.packets, 'packet')} captured, {lost:,} lost")


def _print_line(packet: Packet) -> None:
    from galelb.capture.show import as_line

    click.echo(plain(as_line(packet)))


def _print_json(packet: Packet) -> None:
    from galelb.capture.show import as_json

    click.echo(json.dumps(as_json(packet)))


def _say(text: str) -> None:
    click.echo(text, err=True)
