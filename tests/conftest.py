# SPDX-License-Identifier: Apache-2.0
"""Tiers: what needs root is skipped without it, and in CI nothing may be skipped."""

import logging
import os
from collections.abc import Iterator

import pytest
import structlog

TIERS = ("bpf", "netns", "e2e")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Commands set up logging to a stream that pytest closes after the test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    before = structlog.get_config() if structlog.is_configured() else None
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    if before is None:
        structlog.reset_defaults()
    else:
        structlog.configure(**before)


def _tier(item: pytest.Item) -> str:
    return next((tier for tier in TIERS if item.get_closest_marker(tier)), "fast")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root")
    for item in items:
        if _tier(item) != "fast":
            item.add_marker(skip)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failed run: a tier that did not run proves nothing."""
    if os.environ.get("CI") != "true":
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if skipped:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ran = {"fast": 0} | dict.fromkeys(TIERS, 0)
    for report in terminalreporter.stats.get("passed", []):
        tier = next((tier for tier in TIERS if tier in report.keywords), "fast")
        ran[tier] += 1
    terminalreporter.write_line(
        "tiers passed: " + ", ".join(f"{name} {count}" for name, count in ran.items())
    )
    if os.environ.get("CI") == "true" and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line("CI: no test may be skipped", red=True)
