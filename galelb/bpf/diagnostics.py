# SPDX-License-Identifier: Apache-2.0
"""Turns what clang, bcc and the verifier print into short messages with file and line."""

from __future__ import annotations

import re

__all__ = ["clang_message", "died_message", "refused_by_environment", "tail", "verifier_message"]

_ERROR = re.compile(
    r"^(?P<where>[^:\n]+:\d+):\d+: (?:fatal )?error: (?P<what>.*?)(?: \[-W.*\])?$", re.MULTILINE
)
_DIED = re.compile(
    r"^error: (?P<where>\S+:\d+):\d+: in function (?P<program>\w+) .*?\): (?P<what>.*)$",
    re.MULTILINE,
)
_UNKNOWN = "<unknown>:0"
_LINE = re.compile(r'^#line (\d+) "(.*)"$')
_SOURCE = re.compile(r"^; (?P<code>.*?)(?: @ (?P<where>\S+:\d+))?$")
_STATISTICS = re.compile(r"^(processed \d+ insns|verification time|stack depth|HINT: |$)")
_ENDLESS = "Program  too large"  # what bcc makes of E2BIG, whatever the program's size
_MAX_ERRORS = 10
_LOG_LINES = 30
_ENVIRONMENT = (
    ("is not on BPF FS", "the folder for pins is not on a bpffs"),
    ("Operation not permitted", "the kernel refuses BPF to this user: run as root"),
    ("Cannot allocate memory", "not enough memory for the maps"),
)


def refused_by_environment(output: str) -> str | None:
    """Return why the machine, not the program, is at fault; None if nothing says so."""
    for sign, meaning in _ENVIRONMENT:
        if sign in output:
            said = next(line for line in output.splitlines() if sign in line)
            return f"{meaning} ({said.strip()})"
    return None


def clang_message(output: str) -> str:
    """Return the errors of a compilation, one `file:line: message` each."""
    errors = [f"{m['where']}: {m['what']}" for m in _ERROR.finditer(output)]
    if not errors:
        return "the compiler failed: " + (_tail(output) or "it printed nothing")
    unique = list(dict.fromkeys(errors))
    more = [f"... and {len(unique) - _MAX_ERRORS} more"] if len(unique) > _MAX_ERRORS else []
    return "\n".join(unique[:_MAX_ERRORS] + more)


def died_message(output: str, status: int) -> str:
    """Return why a compiler ended without an answer: LLVM says so and exits, or it crashed."""
    found = _DIED.search(output)
    if found is None:
        last = output.strip().splitlines()[-1:] or ["it said nothing"]
        return f"the compiler ended with {status}: {last[0]}"
    where = "" if found["where"] == _UNKNOWN else f"{found['where']}: "
    return f"{where}in {found['program']}: {found['what'].strip()}"


def verifier_message(program: str, log: str, text: str = "") -> str:
    """Return one sentence: where in C the verifier stopped, and what it said last.

    `text` is the composition: the log of newer kernels tells a place but not what stands there,
    and names the file without its folder.
    """
    where, code, reason = "", "", ""
    for line in log.splitlines():
        source = _SOURCE.match(line)
        if source is not None:
            where, code = source["where"] or "", source["code"].strip()
        elif not _STATISTICS.match(line):
            reason = line.strip()
    if _ENDLESS in reason:
        reason = (
            "a million steps prove nothing: a loop has no end that it can see, or too many ways"
        )
    lines = _source_lines(text)
    where = next((full for full in lines if where and f"/{full}".endswith(f"/{where}")), where)
    code = code or lines.get(where, "").strip()
    place = ": ".join(filter(None, [where, code]))
    return f"the verifier refused {program}{f' at {place}' if place else ''}: {reason or 'why?'}"


def _source_lines(text: str) -> dict[str, str]:
    """Return the lines of a composition by `file:line`."""
    lines: dict[str, str] = {}
    name, number = "", 0
    for line in text.split("\n"):
        match = _LINE.match(line)
        if match is not None:
            name, number = match.group(2), int(match.group(1))
            continue
        lines[f"{name}:{number}"] = line
        number += 1
    return lines


def tail(log: str) -> str:
    """Return the last lines of a log, enough to understand a refusal."""
    return "\n".join(log.rstrip().splitlines()[-_LOG_LINES:])


def _tail(output: str) -> str:
    return "\n".join(output.strip().splitlines()[-5:])
