# SPDX-License-Identifier: Apache-2.0
"""Reads the steps of a tutorial, and compares what a page shows with what was printed.

A comment above a block says where it belongs: `<!-- run: HOST... -->` is typed and must print what
is shown, `<!-- start: HOST... -->` stays in a terminal, `<!-- write: HOST... PATH -->` is a file.
Other comments stand for what the text asks the reader to do by hand.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import attrs

__all__ = ["Step", "dialogue", "missing", "steps"]

_STEP = re.compile(
    r"^<!-- (\w+)(?:: ([^>]*?))? -->\n(?:```\w*\n(.*?)^```$)?", re.MULTILINE | re.DOTALL
)
_NUMBER = re.compile(r"\d[\d,]*(\.\d+)?")


@attrs.frozen
class Step:
    """One thing that a reader does."""

    verb: str
    words: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.verb} {' '.join(self.words)}".strip()


def steps(page: Path) -> Iterator[Step]:
    """The steps of a page, in order."""
    for match in _STEP.finditer(page.read_text().partition("\n# ")[2]):
        yield Step(match[1], tuple((match[2] or "").split()), match[3] or "")


def dialogue(text: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with what is shown below it."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif line.strip():
            command, shown = found[-1]
            found[-1] = (command, f"{shown}{line}\n")
    return found


def missing(shown: str, printed: str) -> list[str]:
    """The lines of what a page shows that were not printed.

    `...` stands for anything, spaces for any spaces, and a number for any number. A page may
    leave lines out.
    """
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    wanted = [line for line in shown.splitlines() if line.strip() not in ("", "...")]
    return [line for line in wanted if not any(re.fullmatch(_pattern(line), one) for one in lines)]


def _pattern(line: str) -> str:
    return " ".join(map(_word, line.split())).replace(" .*", "(?: .*)?")


def _word(word: str) -> str:
    if word == "...":
        return ".*"
    if _NUMBER.fullmatch(word):
        return r"\d[\d.,]*"
    return re.escape(word).replace(re.escape("..."), r"\S*")
