# SPDX-License-Identifier: Apache-2.0
"""The site is built without a warning, and every page is in it."""

import subprocess
import sys
from pathlib import Path

import pytest

from .pages import ROOT

BUILD = [sys.executable, str(ROOT / "docs" / "build.py")]


def test_the_site_is_built_without_a_warning_and_leads_to_every_page(tmp_path: Path) -> None:
    done = subprocess.run([*BUILD, str(tmp_path)], capture_output=True, text=True, timeout=250)

    assert (0, "") == (done.returncode, done.stderr)
    assert 'url=docs/index.html"' in (tmp_path / "index.html").read_text()
    index = (tmp_path / "docs" / "index.html").read_text()
    pages = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "plugins").glob("*/README.md")]
    for page in pages:
        name = page.relative_to(page.parents[1]).with_suffix(".html")
        assert page.stem == "index" or f"{name}" in index, f"{page}: in no list of docs/index.md"


@pytest.mark.parametrize("link", ["missing.md", "reference/api.md#no-such-heading"])
def test_a_broken_link_fails_the_build(link: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Start\n\n[there]({link})\n")
    (tmp_path / "docs" / "reference").mkdir()
    (tmp_path / "docs" / "reference" / "api.md").write_text(
        "---\norphan: true\n---\n# API\n\n## One\n"
    )
    options = ["-m", "sphinx", "-W", "-q", "-c", str(ROOT / "docs")]
    done = subprocess.run(
        [sys.executable, *options, str(tmp_path), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert 0 != done.returncode
    assert link.rpartition("#")[2] in done.stderr
