# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from galelb.datapath.machine import cache_folder, machine_seed, state_folder


def test_the_seed_is_made_once_and_is_nobody_elses_business(tmp_path: Path) -> None:
    folder = tmp_path / "galelb"

    first, second = machine_seed(folder), machine_seed(folder)

    assert first == second
    assert 0 <= first < 1 << 32
    assert 0o600 == (folder / "flow_seed").stat().st_mode & 0o777


def test_a_seed_that_is_damaged_or_that_others_can_read_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "flow_seed"
    file.write_text("no number")
    file.chmod(0o600)

    first = machine_seed(tmp_path)
    again = machine_seed(tmp_path)
    file.write_text("0000002a")
    file.chmod(0o644)
    machine_seed(tmp_path)

    assert first == again
    assert "0000002a" != file.read_text().strip()
    assert 0o600 == file.stat().st_mode & 0o777


def test_where_nothing_can_be_kept_there_is_a_seed_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert 0 <= machine_seed(tmp_path / "file" / "galelb") < 1 << 32


def test_systemd_may_say_where_things_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    plain = cache_folder(), state_folder()
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/a:/var/cache/b")
    monkeypatch.setenv("STATE_DIRECTORY", "/srv/state")

    assert (Path("/var/cache/galelb"), Path("/var/lib/galelb")) == plain
    assert (Path("/var/cache/a"), Path("/srv/state")) == (cache_folder(), state_folder())
