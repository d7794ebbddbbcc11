# SPDX-License-Identifier: Apache-2.0
"""Commands on pages exist, with the options that they are shown with."""

from pathlib import Path

import pytest

from .commands import problem, shown
from .pages import ROOT, pages


@pytest.mark.parametrize("page", list(pages()), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_can_be_typed(page: Path) -> None:
    assert [] == [text for one in shown(page) if (text := problem(one))]


def test_most_pages_show_commands() -> None:
    assert 200 < sum(1 for page in pages() for _ in shown(page))


@pytest.mark.parametrize(
    "line",
    [
        "galelb statsu",
        "galelb status --jsno",
        "galelb drain",
        "$ galelb lab cut lb2; galelb lab kil lb2",
        "./dev galelb weight node2",
    ],
)
def test_a_wrong_command_is_found(line: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"```\n{line}\n```\n")

    assert 1 == sum(problem(one) is not None for one in shown(page))


def test_commands_in_the_text_may_leave_arguments_out_but_not_invent_options(
    tmp_path: Path,
) -> None:
    page = tmp_path / "page.md"
    page.write_text("`galelb drain` and `galelb drain NODE --jsno`\n")

    assert [False, True] == [problem(one) is not None for one in shown(page)]
