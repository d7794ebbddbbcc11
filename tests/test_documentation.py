# SPDX-License-Identifier: Apache-2.0
"""What pages promise: links lead somewhere, code in them is the code that is tested."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOW_TO = ROOT / "docs" / "how-to" / "write-a-forwarder.md"
EXAMPLE = ROOT / "examples" / "galelb-sticky"
NOT_SHOWN = {"README.md", "tests/test_sticky.py"}
"""The page is the long form of the one and links to the other."""
FILE = re.compile(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FOLDERS = ("docs", "plugins", "examples")


def pages() -> Iterator[Path]:
    yield from sorted(ROOT.glob("*.md"))
    for folder in FOLDERS:
        yield from sorted((ROOT / folder).rglob("*.md"))


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", list(pages()), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for link in LINK.findall(FENCED.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not path.startswith(("http:", "https:")) and (
            not target.exists() or (anchor and anchor not in anchors(target))
        ):
            broken.append(link)

    assert [] == broken


@pytest.mark.parametrize("page", list(pages()), ids=lambda page: str(page.relative_to(ROOT)))
def test_files_on_pages_are_the_files(page: Path) -> None:
    for name, text in FILE.findall(page.read_text()):
        assert (ROOT / name).read_text() == text, f"{page}: {name} is another now: copy it"


def test_the_how_to_shows_the_whole_example() -> None:
    shown = {Path(name) for name, _ in FILE.findall(HOW_TO.read_text())}
    suffixes = {".toml", ".py", ".c", ".h", ".md"}
    found = {path for path in EXAMPLE.rglob("*") if path.suffix in suffixes}
    files = {path for path in found if ".pytest_cache" not in path.parts}
    wanted = {path.relative_to(ROOT) for path in files} - {
        (EXAMPLE / name).relative_to(ROOT) for name in NOT_SHOWN
    }

    assert wanted == shown


def test_the_example_is_as_short_as_it_promises() -> None:
    python = sum(len(p.read_text().splitlines()) for p in EXAMPLE.glob("src/**/*.py"))
    c = sum(len(p.read_text().splitlines()) for p in EXAMPLE.glob("src/**/*.c"))

    assert python < 50
    assert c < 80


def test_what_the_how_to_names_of_the_c_exists() -> None:
    headers = "".join(path.read_text() for path in (ROOT / "bpf").glob("*.h"))
    headers += (ROOT / "galelb" / "abi.py").read_text()
    text = HOW_TO.read_text().replace("GALE_REASON_...", "")
    functions = set(re.findall(r"\b(gale_\w+)\(", text))
    fields = set(re.findall(r"`(?:p|t|way)->(?:rw\.)?(\w+)", text))
    macros = {name for name in re.findall(r"\bGALE_[A-Z_0-9]+\b", text) if name != "GALE_MAP"}
    reasons = {name for name in macros if name.startswith("GALE_REASON_")}

    unknown = [name for name in functions if f" {name}(" not in headers.replace("*", " ")]
    unknown += [name for name in fields if not re.search(rf"\b{name}(\[.*\])?;", headers)]
    unknown += [name for name in macros - reasons if name not in headers]
    unknown += [n for n in reasons if f"{n.removeprefix('GALE_REASON_')} = " not in headers]
    assert [] == unknown
