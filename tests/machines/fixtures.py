# SPDX-License-Identifier: Apache-2.0
"""Fixtures of machines for all tests; pyproject loads this as a plugin of pytest."""

import shutil
from pathlib import Path

import pytest

from tests.machines.group import machines
from tests.machines.wheels import PREFIX, build_wheels, install_galelb

__all__ = ["installed_layer", "wheelhouse"]


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel of this checkout and of everything it needs, built once a run."""
    return build_wheels(tmp_path_factory.mktemp("wheelhouse"))


@pytest.fixture(scope="session")
def installed_layer(wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer for `machines` in which galelb is installed, which takes longer than to boot."""
    layer = tmp_path_factory.mktemp("layer")
    command = Path("usr/local/bin/galelb")
    with machines(["maker"]) as found:
        install_galelb(found["maker"], wheelhouse)
        source = found["maker"].root / PREFIX.lstrip("/")
        shutil.copytree(source, layer / PREFIX.lstrip("/"), symlinks=True)
    for folder in [*command.parents][:-1]:
        (layer / folder).mkdir(parents=True, exist_ok=True)
    (layer / command).symlink_to(f"{PREFIX}/bin/galelb")
    for folder in (layer, *(layer / parent for parent in command.parents), layer / "opt"):
        folder.chmod(0o755)
    return layer
