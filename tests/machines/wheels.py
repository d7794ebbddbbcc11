# SPDX-License-Identifier: Apache-2.0
"""galelb for machines without a network: a wheel of this checkout beside all it depends on."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from e2e.checkout import copy_checkout
from tests.machines.machine import Machine

__all__ = ["PREFIX", "build_wheels", "install_galelb"]

PREFIX = "/opt/galelb"
"""Where `install_galelb` makes the virtual environment: the path that the units name."""
_MOST_SECONDS = 280


def build_wheels(folder: Path) -> Path:
    """Build wheels in a folder: all that installing the wheel, or a checkout, fetches."""
    source, wheels = folder / "source", folder / "wheels"
    copy_checkout(source)
    project = tomllib.loads((source / "pyproject.toml").read_text())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", wheels, source]
    command += project["build-system"]["requires"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_MOST_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    return wheels


def install_galelb(machine: Machine, wheels: Path, prefix: str = PREFIX) -> None:
    """Install galelb from wheels as the documentation says; it finds Debian's bcc by itself."""
    machine.put(wheels, "/var/tmp/wheels")
    machine.run("python3", "-m", "venv", prefix)
    pip = [f"{prefix}/bin/pip", "install", "--quiet", "--no-index", "--find-links"]
    machine.run(*pip, "/var/tmp/wheels", "galelb")
    machine.run("ln", "-sfn", f"{prefix}/bin/galelb", "/usr/local/bin/galelb")
    machine.run("rm", "-r", "/var/tmp/wheels")
