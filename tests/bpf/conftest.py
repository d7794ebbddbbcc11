# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests that need the real kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from galelb.testing.kernel import Sandbox


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A bpffs and a network namespace for one test."""
    with Sandbox() as one:
        yield one


@pytest.fixture(scope="module")
def shared_sandbox() -> Iterator[Sandbox]:
    """One for the tests of a module that do not disturb each other."""
    with Sandbox() as one:
        yield one
