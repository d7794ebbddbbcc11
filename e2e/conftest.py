# SPDX-License-Identifier: Apache-2.0
"""Scenarios run on whole labs, so all of them need root. Some run what is built and installed."""

import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from e2e.checkout import copy_checkout

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("galelb", "scenarios of e2e/hosts (docs/reference/e2e.md)")
    group.addoption("--hosts", choices=("lab", "inventory"), default="lab", help="where they run")
    group.addoption("--inventory", action="append", default=[], help="an Ansible inventory")
    group.addoption(
        "--patience", type=float, default=90.0, help="seconds until all have to be up at first"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)


def run(*command: str | Path, cwd: Path, code: int = 0, **variables: str) -> str:
    """Run a command outside the checkout, knowing nothing of it; return all that it printed."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        command, cwd=cwd, env=environ | variables, capture_output=True, text=True, check=False
    )

    assert code == done.returncode, done.stdout + done.stderr
    return done.stdout + done.stderr


@attrs.frozen
class Built:
    """What `python -m build` makes of a copy of the tracked files; the wheel is the sdist's."""

    source: Path
    files: frozenset[str]
    sdist: Path
    wheel: Path


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    files = copy_checkout(folder / "source")
    out = ("--outdir", folder / "dist", folder / "source")
    run(sys.executable, "-m", "build", *out, cwd=folder)
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    (wheel,) = (folder / "dist").glob("*.whl")
    return Built(folder / "source", frozenset(files), sdist, wheel)


@pytest.fixture(scope="session")
def run_outside():
    """`run()`, for test modules, which cannot import from here."""
    return run
