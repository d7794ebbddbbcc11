# SPDX-License-Identifier: Apache-2.0
"""Where bcc is looked for, with folders that the tests make."""

import pytest

from galelb.bpf import find_bcc as module
from galelb.bpf.find_bcc import Bcc, BccMissing, find_bcc


@pytest.fixture
def package(tmp_path):
    """Makes a folder with a bcc that is a compiler by its files."""

    def make(name, version='__version__ = "0.29.1"\n'):
        folder = tmp_path / name / "bcc"
        folder.mkdir(parents=True)
        for part in ("__init__.py", "libbcc.py", "table.py"):
            (folder / part).touch()
        if version:
            (folder / "version.py").write_text(version)
        return folder

    return make


@pytest.fixture(autouse=True)
def bare_system(monkeypatch):
    """A system with nothing installed; a test may give it something."""
    monkeypatch.setattr(module, "_KNOWN", ())
    monkeypatch.setattr(module, "_SYSTEM_PYTHON", "/no/such/python")


def test_the_first_on_the_path_is_taken(package):
    first, second = package("first"), package("second", "__version__ = '0.26.0'\n")

    assert Bcc(first, "0.29.1") == find_bcc([str(first.parent), str(second.parent)])
    assert Bcc(second, "0.26.0") == find_bcc([str(second.parent), str(first.parent)])


def test_a_version_that_cannot_be_read_is_no_obstacle(package):
    silent, garbled = package("silent", ""), package("garbled", "")
    (garbled / "version.py").write_bytes(b"\xff\xfe")

    assert Bcc(silent, "") == find_bcc([str(silent.parent)])
    assert Bcc(garbled, "") == find_bcc([str(garbled.parent)])


def test_known_folders_come_after_the_path(package, monkeypatch):
    known, own = package("known"), package("own")
    monkeypatch.setattr(module, "_KNOWN", (str(known.parent),))

    assert known == find_bcc([]).folder
    assert own == find_bcc([str(own.parent)]).folder


def test_the_system_s_python_is_asked_last(package, monkeypatch, tmp_path):
    folder = package("elsewhere")
    asked = tmp_path / "python3"
    asked.write_text(f"#!/bin/sh\necho {folder.parent}\necho called >>{tmp_path}/calls\n")
    asked.chmod(0o700)
    monkeypatch.setattr(module, "_SYSTEM_PYTHON", str(asked))

    assert folder == find_bcc([str(tmp_path)]).folder
    assert folder == find_bcc([str(folder.parent)]).folder
    assert "called\n" == (tmp_path / "calls").read_text()


def test_others_of_that_name_are_passed_over_and_told(package, tmp_path):
    lattice, file = tmp_path / "lattice", tmp_path / "file"
    (lattice / "bcc").mkdir(parents=True)
    (lattice / "bcc" / "__init__.py").touch()
    file.mkdir()
    (file / "bcc.py").touch()
    good = package("good")
    others = [str(lattice), str(file)]

    assert good == find_bcc([*others, str(good.parent)]).folder
    with pytest.raises(BccMissing) as caught:
        find_bcc([*others, str(tmp_path)])

    told = ", ".join(f"{other} (the bcc there is another project)" for other in others)
    assert f"looked in {told}, {tmp_path}: apt install python3-bpfcc" in str(caught.value)
    assert 3 == caught.value.exit_code
