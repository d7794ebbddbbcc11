# SPDX-License-Identifier: Apache-2.0
"""Finds the BPF compiler's Python package, bcc, wherever the distribution put it.

A virtual environment does not see the distribution's packages, and what is called bcc there may
be something else: PyPI has a project of that name which is no compiler. Nothing is imported here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from galelb.errors import EnvironmentProblem

__all__ = ["MEND", "Bcc", "BccMissing", "find_bcc"]

MEND = "apt install python3-bpfcc"
_NAME = "bcc"
_KNOWN = ("/usr/lib/python3/dist-packages",)
"""Where Debian and Ubuntu put packages for every Python 3 of theirs."""
_SYSTEM_PYTHON = "/usr/bin/python3"
_ASKED_TIMEOUT_S = 20
# Of every version since 0.6, and not of others called bcc.
_PARTS = ("__init__.py", "libbcc.py", "table.py")
_OTHER = " (the bcc there is another project)"
_VERSION = re.compile(r"^__version__\s*=\s*['\"]([^'\"]+)['\"]", re.MULTILINE)


class BccMissing(EnvironmentProblem):
    """There is no bcc; `text` says where it was looked for, the message also what to install."""

    def __init__(self, looked: Iterable[str]) -> None:
        self.text = (
            "BPF programs are compiled by bcc, which is not installed (PyPI's bcc is something"
            f" else); looked in {', '.join(looked)}"
        )
        super().__init__(f"{self.text}: {MEND}")


@attrs.frozen
class Bcc:
    """The package's folder, and its version, empty when it does not say."""

    folder: Path
    version: str


def find_bcc(path: Iterable[str] | None = None) -> Bcc:
    """Return the bcc that is used: the first of `sys.path` (or `path`), else the system's.

    Blocks. Raises BccMissing.
    """
    looked: list[str] = []
    for folder in _folders(sys.path if path is None else path):
        package = folder / _NAME
        if all((package / part).is_file() for part in _PARTS):
            return Bcc(package, _version(package))
        looked.append(f"{folder}{_OTHER if _exists(package) else ''}")
    raise BccMissing(looked)


def _folders(path: Iterable[str]) -> Iterator[Path]:
    """Yield folders once each; the system's Python is asked last, since that takes a while."""
    seen: set[Path] = set()
    for source in (path, _KNOWN, _path_of_system()):
        for name in source:
            folder = Path(name)
            if name and folder not in seen and folder.is_dir():
                seen.add(folder)
                yield folder


def _path_of_system() -> Iterator[str]:
    """Yield where the system's Python looks for packages; nothing where there is none."""
    import subprocess  # the compiler starts sooner without

    command = [_SYSTEM_PYTHON, "-I", "-c", "import sys; print('\\n'.join(sys.path))"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_ASKED_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return
    yield from done.stdout.splitlines()


def _exists(package: Path) -> bool:
    return (package / "__init__.py").is_file() or package.with_suffix(".py").is_file()


def _version(package: Path) -> str:
    try:
        found = _VERSION.search((package / "version.py").read_text())
    except (OSError, ValueError):
        return ""
    return found[1] if found else ""
