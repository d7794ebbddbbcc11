# SPDX-License-Identifier: Apache-2.0
"""Machines for the playbooks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machines.ansible import NAMES, Deployment
from tests.machines.group import machines


@pytest.fixture
def deployment(wheelhouse: Path, tmp_path: Path) -> Iterator[Deployment]:
    """Two balancers and a node without galelb, and the playbooks."""
    with machines(NAMES) as found:
        yield Deployment(found, wheelhouse, f"1 {'5ac0' * 16}", tmp_path)
