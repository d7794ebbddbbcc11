# SPDX-License-Identifier: Apache-2.0
"""What pytest learns when galelb is installed: the markers of its tests, and a table of sizes."""

from __future__ import annotations

import pytest

__all__ = ["pytest_configure", "pytest_terminal_summary"]

_PREFIX = "galelb program "


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of the contract's tests."""
    config.addinivalue_line(
        "markers", "bpf: needs root and python3-bpfcc; runs compiled programs (BPF_PROG_TEST_RUN)"
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print instructions and stack of the programs that a contract measured."""
    sizes = {
        name.removeprefix(_PREFIX): value
        for report in terminalreporter.stats.get("passed", [])
        for name, value in report.user_properties
        if name.startswith(_PREFIX)
    }
    if sizes:
        terminalreporter.section("size of programs")
        for name, value in sizes.items():
            terminalreporter.write_line(f"{name}: {value}")
