# SPDX-License-Identifier: Apache-2.0
"""What health sources said of a node: reports of its own, and what active checks found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from galelb.model import HealthReport, HealthStatus, HealthWord, Node

__all__ = [
    "MAX_TEXT",
    "Check",
    "Voice",
    "announced_weight",
    "plain_text",
    "renewed",
    "weight_from",
]

MAX_TEXT = 200
"""Characters kept of a text that a node sent."""


@attrs.define(kw_only=True)
class Voice:
    """What one source last said about one service of the node."""

    status: HealthStatus
    heard_at: float
    streak: int = 0
    """Serving reports in a row."""
    message: str = ""
    weight: int | None = None
    """What it said that the node weighs."""


@attrs.define(kw_only=True)
class Check:
    """What a source that looks at the node itself found last."""

    passed: bool | None = None
    """None = it has not looked yet."""
    since: float
    message: str = ""


def announced_weight(voices: Iterable[Voice]) -> int | None:
    """Return what a node last said that it weighs; None = it says nothing about that."""
    said = [voice for voice in voices if voice.weight is not None]
    return max(said, key=lambda voice: voice.heard_at).weight if said else None


def plain_text(text: str) -> str:
    """Return foreign text made safe to print: one line, printable, bounded."""
    if not text:
        return ""
    line = " ".join(text[: 2 * MAX_TEXT].split())
    return "".join(c if c.isprintable() else "?" for c in line)[:MAX_TEXT]


def words(
    voices: Mapping[tuple[str, str], Voice], checks: Mapping[str, Check], now: float
) -> tuple[HealthWord, ...]:
    """Return what all of them said last, for people."""
    said = [_voice_word(key, voice, now) for key, voice in voices.items()]
    found = [_check_word(source, check, now) for source, check in checks.items()]
    return (*said, *found)


def _voice_word(key: tuple[str, str], voice: Voice, now: float) -> HealthWord:
    return HealthWord(
        source=key[0],
        service=key[1],
        word=_WORDS[voice.status],
        message=voice.message,
        age_s=now - voice.heard_at,
    )


def _check_word(source: str, check: Check, now: float) -> HealthWord:
    return HealthWord(
        source=source,
        word=_FINDINGS[check.passed],
        message=check.message,
        age_s=now - check.since,
    )


_WORDS = {
    HealthStatus.SERVING: "serving",
    HealthStatus.NOT_SERVING: "not serving",
    HealthStatus.SHUTTING_DOWN: "shutting down",
}
_FINDINGS = {None: "waiting", True: "passed", False: "failed"}


def weight_from(operator_weight: int | None, voices: Iterable[Voice], static: bool) -> str:
    """Return whose word a node's weight is: the operator's, the node's, that of the config."""
    if operator_weight is not None:
        return "operator"
    if announced_weight(voices) is not None:
        return "node"
    return "config" if static else "default"


def renewed(node: Node, report: HealthReport) -> Node:
    """Return the node with the name that it announced."""
    if report.name in ("", node.name):
        return node  # as almost always
    return attrs.evolve(node, name=plain_text(report.name) or node.name)
