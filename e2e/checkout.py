# SPDX-License-Identifier: Apache-2.0
"""This checkout as others get it: what git tracks."""

import shutil
import subprocess
from pathlib import Path

__all__ = ["ROOT", "copy_checkout", "tracked_files"]

ROOT = Path(__file__).parents[1]


def tracked_files() -> list[str]:
    """Return what git tracks, and what is new and not ignored, as far as it exists."""
    # Root may test a checkout of somebody else.
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    command += ["--cached", "--others", "--exclude-standard"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in said.split("\0") if name and (ROOT / name).is_file()]


def copy_checkout(folder: Path) -> list[str]:
    """Copy these files into a folder, which is made; return their names."""
    files = tracked_files()
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return files
