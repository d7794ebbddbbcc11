# SPDX-License-Identifier: Apache-2.0
"""Findings as text for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click

from galelb.commands.text import plain, plural
from galelb.doctor.findings import Finding, Level

__all__ = ["as_json", "as_text", "count"]

_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


def count(findings: Iterable[Finding], level: Level) -> int:
    """Return how many findings are that bad."""
    return sum(finding.level is level for finding in findings)


def as_json(role: str, path: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return one object: role, config, failed, warned, and the checks in order."""
    return {
        "role": role,
        "config": path,
        "failed": count(findings, Level.FAIL),
        "warned": count(findings, Level.WARN),
        "checks": [
            {"name": one.name, "result": one.level.value, "text": one.text, "mend": one.mend}
            for one in findings
        ],
    }


def as_text(role: str, path: str, findings: Sequence[Finding]) -> str:
    """Return a line for each finding, the command that mends it below, and a summary."""
    width = max(len(plain(finding.name)) for finding in findings)
    lines = [f"{role} by {path}", ""]
    for one in findings:
        level = click.style(f"{one.level.value:<4}", fg=_COLOURS[one.level])
        lines.append(f"{level}  {plain(one.name):<{width}}  {plain(one.text)}")
        if one.mend:
            lines.append(f"{'':{width + 8}}mend: {click.style(plain(one.mend), bold=True)}")
    return "\n".join([*lines, "", _summary(findings)])


def _summary(findings: Sequence[Finding]) -> str:
    failed, warned = count(findings, Level.FAIL), count(findings, Level.WARN)
    if not failed and not warned:
        return "All is well."
    parts = [plural(failed, "problem")] if failed else ["nothing fails"]
    return ", ".join(parts + ([plural(warned, "warning")] if warned else [])).capitalize() + "."
