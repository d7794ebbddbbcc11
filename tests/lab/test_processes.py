# SPDX-License-Identifier: Apache-2.0
"""Ending processes of a lab."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from galelb.lab.processes import is_alive, kill, spawn

HANDLES = 1100
"""select() takes none above 1023."""


@pytest.fixture
def many_handles() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * HANDLES)), hard))
    with contextlib.ExitStack() as stack:
        for _ in range(HANDLES):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_process_is_ended_by_one_that_has_many_files_open(
    many_handles: None, tmp_path: Path
) -> None:
    process = spawn("sleeper", ["sleep", "60"], tmp_path / "log")
    kill([process])

    assert not is_alive(process)
