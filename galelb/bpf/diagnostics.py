# SPDX-License-Identifier: Apache-2.0
"""Turns what clang, bcc and the verifier print into short messages with file and line."""

from __future__ import annotations

import re

__all__ = ["clang_message", "refused_by_environment", "tail", "verifier_message"]

_ERROR = re.compile(r"^(?P<where>[^:\n]+:\d+):\d+: (?:fatal )?error: (?P<what>.*)$", re.MULTILINE)
_SOURCE = re.compile(r"^; (?P<code>.*?)(?: @ (?P<where>\S+:\d+))?$")
_STATISTICS = re.compile(r"^(processed \d+ insns|verification time|stack depth|HINT: |$)")
_MAX_ERRORS = 10
_LOG_LINES = 30
_ENVIRONMENT = (
    ("is not in a bpf fs", "the folder for pins is not on a bpffs"),
    ("Operation not permitted", "the kernel refuses BPF to this user: run as root"),
    ("Cannot allocate memory", "not enough memory for the maps"),
)


def refused_by_environment(output: str) -> str | None:
    """Return why the machine, not the program, is at fault; None if nothing says so."""
    for sign, meaning in _ENVIRONMENT:
        if sign in output:
            return f"{meaning} ({_last_line(output)})"
    return None


def clang_message(output: str) -> str:
    """Return the errors of a compilation, one `file:line: message` each."""
    errors = [f"{m['where']}: {m['what']}" for m in _ERROR.finditer(output)]
    if not errors:
        return "the compiler failed: " + (_tail(output) or "it printed nothing")
    unique = list(dict.fromkeys(errors))
    more = [f"... and {len(unique) - _MAX_ERRORS} more"] if len(unique) > _MAX_ERRORS else []
    return "\n".join(unique[:_MAX_ERRORS] + more)


def verifier_message(program: str, log: str) -> str:
    """Return one sentence: where in C the verifier stopped, and what it said last."""
    where, reason = "", ""
    for line in log.splitlines():
        source = _SOURCE.match(line)
        if source is not None:
            code = source["code"].strip()
            where = f"{source['where']}: {code}" if source["where"] else code
        elif not _STATISTICS.match(line):
            reason = line.strip()
    place = f" at `{where}`" if where else ""
    return f"the verifier refused {program}{place}: {reason or 'without a reason'}"


def tail(log: str) -> str:
    """Return the last lines of a log, enough to understand a refusal."""
    return "\n".join(log.rstrip().splitlines()[-_LOG_LINES:])


def _tail(output: str) -> str:
    return "\n".join(output.strip().splitlines()[-5:])


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1].strip() if lines else ""
