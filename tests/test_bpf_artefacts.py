# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path
from typing import Any

import pytest

from galelb.bpf.artefacts import Artefacts


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "libbcc.so.0"
    path.write_bytes(b"compiler")
    return path


def content(library: Path, **programs: Any) -> dict[str, Any]:
    stat = library.stat()
    compiler = {"path": str(library), "size": stat.st_size, "changed_ns": stat.st_mtime_ns}
    return {"maps": {}, "programs": programs, "compiler": compiler}


def test_what_is_kept_is_read_again(tmp_path: Path, library: Path) -> None:
    artefacts = Artefacts(tmp_path / "cache" / "galelb")
    one = content(library, gale={"code": "AA=="})

    artefacts.write("0a", one)

    assert one == artefacts.read("0a")
    assert artefacts.read("0b") is None
    (file,) = artefacts.folder.iterdir()
    assert (0o700, 0o600) == (artefacts.folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777)


def test_what_is_damaged_or_moved_is_not_read(tmp_path: Path, library: Path) -> None:
    artefacts = Artefacts(tmp_path / "cache")
    artefacts.write("0a", content(library, gale={"code": "AAAA"}))
    (file,) = artefacts.folder.iterdir()
    text = file.read_text()

    (artefacts.folder / file.name.replace("0a", "0b")).write_text(text)
    moved = artefacts.read("0b")
    file.write_text(text.replace("AAAA", "AAAB"))
    changed = artefacts.read("0a")
    file.write_bytes(b"\xff\xfe")
    garbage = artefacts.read("0a")
    file.write_text("")
    empty = artefacts.read("0a")

    assert [None] * 4 == [moved, changed, garbage, empty]


def test_another_compiler_compiles_again(tmp_path: Path, library: Path) -> None:
    artefacts = Artefacts(tmp_path / "cache")
    artefacts.write("0a", content(library))

    library.write_bytes(b"a newer compiler")
    newer = artefacts.read("0a")
    library.unlink()

    assert newer is None
    assert artefacts.read("0a") is None


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path: Path, library: Path) -> None:
    artefacts = Artefacts(tmp_path / "cache")
    artefacts.write("0a", content(library))
    artefacts.folder.chmod(0o770)

    artefacts.write("0b", content(library))

    assert artefacts.read("0a") is None
    assert ["programs-0a.json"] == [path.name for path in artefacts.folder.iterdir()]


def test_a_folder_reached_by_a_link_is_not_used(tmp_path: Path, library: Path) -> None:
    real = Artefacts(tmp_path / "cache")
    real.write("0a", content(library))
    link = tmp_path / "link"
    link.symlink_to(real.folder)

    assert Artefacts(link).read("0a") is None


def test_a_folder_that_cannot_be_made_is_no_problem(tmp_path: Path, library: Path) -> None:
    (tmp_path / "file").write_text("")
    artefacts = Artefacts(tmp_path / "file" / "cache")

    artefacts.write("0a", content(library))

    assert artefacts.read("0a") is None


def test_the_oldest_make_room(tmp_path: Path, library: Path) -> None:
    artefacts = Artefacts(tmp_path / "cache")
    for number in range(33):
        artefacts.write(f"{number:02}", content(library))
        if number < 32:
            os.utime(artefacts.folder / f"programs-{number:02}.json", (number, number))
    artefacts.read("01")  # used now, so not the oldest any more
    os.utime(artefacts.folder / "programs-32.json", (99, 99))

    artefacts.write("33", content(library))

    names = {path.name for path in artefacts.folder.iterdir()}
    assert 32 == len(names)
    assert {"programs-00.json", "programs-02.json"}.isdisjoint(names)
    assert {"programs-01.json", "programs-33.json"} <= names
