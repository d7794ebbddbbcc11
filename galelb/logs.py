# SPDX-License-Identifier: Apache-2.0
"""Sets up logging: structured lines on stderr, for people on a terminal, for programs elsewhere."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from galelb.journal import goes_to_journal, prioritised
from galelb.lazy import hidden

with hidden("rich"):  # for tracebacks in colour; imported in as much time as all of trio
    import structlog
    from structlog.typing import Processor

__all__ = ["LEVELS", "configure_logging", "get_logger"]

get_logger = structlog.get_logger
"""For who must not be the first to import structlog, that is commands which keep running."""

LEVELS = ("debug", "info", "warning", "error")


def configure_logging(
    level: str = "info", json: bool = False, stream: TextIO | None = None
) -> None:
    """Log to `stream` (stderr): coloured on a terminal, else logfmt, or JSON if asked for.

    In systemd's journal each line has its severity, and no time, which the journal notes itself.

    Replaces an earlier set-up. Loggers of the standard library (other people's code) come out
    in the same form, from level warning. Raises ValueError for an unknown level.
    """
    if level not in LEVELS:
        raise ValueError(f"log level must be one of {', '.join(LEVELS)}, got {level!r}")
    stream = sys.stderr if stream is None else stream
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
    ]
    rendering = _rendering(json=json, terminal=stream.isatty())
    if goes_to_journal(stream):
        rendering[-1] = _for_journal(rendering[-1])
    else:
        shared.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    _configure_foreign(stream, shared, rendering, debug=level == "debug")


def _rendering(*, json: bool, terminal: bool) -> list[Processor]:
    if json:
        return [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    if terminal:
        return [structlog.dev.ConsoleRenderer()]
    renderer = structlog.processors.LogfmtRenderer(
        key_order=["timestamp", "level", "event"], drop_missing=True, bool_as_flag=False
    )
    return [structlog.processors.format_exc_info, _one_line, renderer]


def _for_journal(renderer: Processor) -> Processor:
    def render(logger: object, name: str, event: structlog.typing.EventDict) -> str:
        level = str(event.get("level", "info"))
        return prioritised(level, str(renderer(logger, name, event)))

    return render


def _one_line(_logger: object, _name: str, event: structlog.typing.EventDict) -> dict[str, object]:
    """Logfmt is one line per event, so line breaks are written as \\n; lists get commas."""
    return {key: _plain(value) for key, value in event.items()}


def _plain(value: object) -> object:
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    return value.replace("\n", "\\n") if isinstance(value, str) else value


def _configure_foreign(
    stream: TextIO, shared: list[Processor], rendering: list[Processor], *, debug: bool
) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO if debug else logging.WARNING)
