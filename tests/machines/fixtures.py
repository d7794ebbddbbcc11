# SPDX-License-Identifier: Apache-2.0
"""Fixtures of machines for all tests; pyproject loads this as a plugin of pytest."""

from pathlib import Path

import pytest

from tests.machines.wheels import build_wheels

__all__ = ["wheelhouse"]


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel of this checkout and of everything it needs, built once a run."""
    return build_wheels(tmp_path_factory.mktemp("wheelhouse"))
