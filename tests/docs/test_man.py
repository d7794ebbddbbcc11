# SPDX-License-Identifier: Apache-2.0
"""Manual pages are those of the code, and well formed."""

import shutil
import subprocess

import pytest

from galelb.cli import COMMANDS

from .pages import ROOT

MAN = ROOT / "docs" / "man"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The pages as the code has them now."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    import manpages

    return manpages.pages()


def test_manual_pages_are_current(made: dict[str, str]) -> None:
    kept = {path.name: path.read_text() for path in MAN.iterdir()}

    assert made.keys() == kept.keys(), "run: python docs/generate.py"
    assert [] == [name for name in made if made[name] != kept[name]], "run: python docs/generate.py"


def test_there_is_a_page_for_every_command_and_file(made: dict[str, str]) -> None:
    wanted = {"galelb.1", "lb.toml.5", "node.toml.5"} | {f"galelb-{name}.1" for name in COMMANDS}

    assert wanted == made.keys()
    assert "\\-\\-config" in made["galelb-status.1"]
    assert ".Ss \\&[[services]]" in made["lb.toml.5"]


@pytest.mark.skipif(not shutil.which("mandoc"), reason="apt install mandoc")
def test_mandoc_has_nothing_against_the_pages() -> None:
    pages = sorted(map(str, MAN.iterdir()))
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", *pages], capture_output=True, text=True
    )

    assert (0, "") == (done.returncode, done.stdout + done.stderr)
