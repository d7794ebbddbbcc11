# SPDX-License-Identifier: Apache-2.0
"""The pages of the project, and the blocks of code that are on them."""

import re
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[2]
_FENCED = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (\w+): ([^>]+?) -->\n$")
_FOLDERS = ("ansible", "bench", "docs", "e2e", "examples", "plugins", "systemd")


@attrs.frozen
class Block:
    """What stands between two fences."""

    page: Path
    line: int
    language: str
    text: str
    mark: tuple[str, str] | None
    """Of a comment right above it, `<!-- name: value -->`: ("name", "value")."""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> Iterator[Path]:
    """Every page that people read, wherever it lies."""
    yield from sorted(ROOT.glob("*.md"))
    for folder in _FOLDERS:
        yield from sorted((ROOT / folder).rglob("*.md"))


def blocks(page: Path) -> Iterator[Block]:
    """Every block of a page, in order."""
    text = page.read_text()
    for match in _FENCED.finditer(text):
        above = text[: match.start()]
        mark = _MARK.search(above)
        yield Block(
            page=page,
            line=above.count("\n") + 2,
            language=match[2],
            text="".join(
                line.removeprefix(match[1]) for line in match[3].splitlines(keepends=True)
            ),
            mark=(mark[1], mark[2]) if mark else None,
        )


def all_blocks(*languages: str) -> list[Block]:
    """The blocks of all pages that are in one of these languages."""
    found = [block for page in pages() for block in blocks(page)]
    return [block for block in found if block.language in languages]
