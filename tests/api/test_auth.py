# SPDX-License-Identifier: Apache-2.0
"""The token file: made once, kept, private, and never guessed at when it is damaged."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from galelb.api.auth import TOKEN_FILE, BearerToken, load_or_create_token
from galelb.errors import ApiError


def test_the_token_is_made_once_and_kept(tmp_path: Path) -> None:
    directory = tmp_path / "run" / "default"

    first = load_or_create_token(directory)

    assert first == load_or_create_token(directory)
    assert 43 == len(first)
    assert [TOKEN_FILE] == [path.name for path in directory.iterdir()]


def test_two_instances_have_different_tokens(tmp_path: Path) -> None:
    assert load_or_create_token(tmp_path / "a") != load_or_create_token(tmp_path / "b")


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    load_or_create_token(tmp_path)
    path = tmp_path / TOKEN_FILE
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)

    path.chmod(0o644)
    load_or_create_token(tmp_path)

    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("content", ["", "short", "x" * 2000, "a b" * 20, "ü" * 40])
def test_a_file_without_a_usable_token_says_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / TOKEN_FILE).write_text(content)

    with pytest.raises(ApiError, match="remove it and a new one is made") as caught:
        load_or_create_token(tmp_path)

    assert not content or content not in str(caught.value)


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("x" * 40)
    (tmp_path / TOKEN_FILE).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ApiError, match="cannot use the API's token file"):
        load_or_create_token(tmp_path)


def test_a_folder_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / TOKEN_FILE).mkdir()

    with pytest.raises(ApiError, match="token file"):
        load_or_create_token(tmp_path)


def test_the_token_does_not_show_in_a_repr() -> None:
    assert "secret" not in repr(BearerToken("secret"))
