# SPDX-License-Identifier: Apache-2.0
"""galelb for machines without a network: a wheel of this checkout beside all it depends on."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.machines.machine import Machine

__all__ = ["PREFIX", "build_wheels", "install_galelb"]

ROOT = Path(__file__).parents[2]
PREFIX = "/opt/galelb"
"""Where `install_galelb` makes the virtual environment: the path that the units name."""
_MOST_SECONDS = 280
_SOURCES = ("galelb", "plugins", "bpf", "LICENSES", "pyproject.toml", "README.md")
_SOURCES_IF_THERE = ("MANIFEST.in", "setup.py", "systemd", "man", "share", "ansible", "docs")


def build_wheels(folder: Path) -> Path:
    """Build wheels in a folder; setuptools writes beside a copy of the source, not in it."""
    source = folder / "source"
    source.mkdir(parents=True)
    for name in (*_SOURCES, *(name for name in _SOURCES_IF_THERE if (ROOT / name).exists())):
        path = ROOT / name
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "build", "node_modules", ".*")
            shutil.copytree(path, source / name, ignore=ignored)
        else:
            shutil.copy(path, source / name)
    wheels = folder / "wheels"
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", wheels, source]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_MOST_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    return wheels


def install_galelb(machine: Machine, wheels: Path, prefix: str = PREFIX) -> None:
    """Install galelb from wheels as the documentation says: a venv that sees Debian's bcc."""
    machine.put(wheels, "/var/tmp/wheels")
    machine.run("python3", "-m", "venv", "--system-site-packages", prefix)
    pip = [f"{prefix}/bin/pip", "install", "--quiet", "--no-index", "--find-links"]
    machine.run(*pip, "/var/tmp/wheels", "galelb")
    machine.run("ln", "-sfn", f"{prefix}/bin/galelb", "/usr/local/bin/galelb")
    machine.run("rm", "-r", "/var/tmp/wheels")
