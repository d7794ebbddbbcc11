# SPDX-License-Identifier: Apache-2.0
"""The compiler helper in environments that hide the distribution's bcc, or hold another one."""

import sys
from pathlib import Path

import attrs
import pytest

import galelb
from galelb.bpf.find_bcc import Bcc, find_bcc
from galelb.bpf.helper import Helper
from galelb.errors import EnvironmentProblem

pytestmark = pytest.mark.bpf

TEXT = "int gale_found(struct xdp_md *ctx) { return XDP_PASS; }"
FAKE = ("__init__.py", "libbcc.py", "table.py")


@pytest.fixture
def own() -> Bcc:
    """The bcc of this machine."""
    return find_bcc()


def python(folder: Path, start: str) -> str:
    """Write a Python that is started by a line of shell, which ends with its arguments."""
    script = folder / "python"
    script.write_text(f"#!/bin/sh\n{start}\n")
    script.chmod(0o700)
    return str(script)


def path(folder: Path, *options: str) -> str:
    words = " ".join((sys.executable, *options))
    return f'export PYTHONPATH={folder}:$PYTHONPATH; exec {words} "$@"'


def compiled(interpreter: str) -> set[str]:
    answer = Helper(python=interpreter).compile(TEXT, {"gale_found": "xdp"})
    return set(answer["programs"])


def test_a_virtual_environment_without_system_packages_finds_bcc(tmp_path: Path) -> None:
    # -S hides every site-packages folder, as such an environment hides the distribution's.
    root, packages = (Path(module.__file__).parents[1] for module in (galelb, attrs))
    start = f'export PYTHONPATH="{root}:{packages}"; exec {sys.executable} -S "$@"'

    assert {"gale_found"} == compiled(python(tmp_path, start))


def test_a_package_that_is_only_called_bcc_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "bcc.py").write_text("LATTICE = True\n")
    # It is first on the path, and imported already (the helper's first option is -S).
    (tmp_path / "sitecustomize.py").write_text("import bcc\nassert bcc.LATTICE\n")

    assert {"gale_found"} == compiled(python(tmp_path, f"shift; {path(tmp_path)}"))


def test_a_bcc_that_lacks_its_library_is_a_problem_of_the_environment(tmp_path: Path) -> None:
    package = tmp_path / "bcc"
    package.mkdir()
    for name in FAKE:
        (package / name).touch()
    (package / "__init__.py").write_text("import ctypes\nctypes.CDLL('libnobody.so.0')\n")

    with pytest.raises(EnvironmentProblem) as caught:
        compiled(python(tmp_path, path(tmp_path)))

    assert f"bcc in {package} cannot be used: libnobody.so.0" in str(caught.value)
    assert str(caught.value).endswith("; apt install python3-bpfcc")


def test_no_other_package_of_its_folder_is_seen_through_it(tmp_path: Path) -> None:
    """The environment's newer packages win; bcc itself needs none."""
    package = tmp_path / "bcc"
    package.mkdir()
    for name in FAKE:
        (package / name).touch()
    (package / "__init__.py").write_text("import neighbour\n")
    (tmp_path / "neighbour.py").touch()
    code = (
        "from galelb.bpf import compiler, find_bcc; import pathlib;"
        f" compiler.find_bcc = lambda: find_bcc.Bcc(pathlib.Path({str(package)!r}), '');"
        " compiler.main()"
    )

    with pytest.raises(EnvironmentProblem, match="No module named 'neighbour'"):
        compiled(python(tmp_path, f'exec {sys.executable} -c "{code}"'))


def test_without_bcc_the_message_says_where_it_was_looked_for(own: Bcc, tmp_path: Path) -> None:
    hidden = f'mount -t tmpfs none {own.folder}; exec {sys.executable} "$@"'
    start = f"exec unshare --mount sh -ec '{hidden}' sh \"$@\""

    with pytest.raises(EnvironmentProblem) as caught:
        compiled(python(tmp_path, start))

    assert 3 == caught.value.exit_code
    assert "is not installed" in str(caught.value)
    assert str(own.folder.parent) in str(caught.value)
    assert "another project" not in str(caught.value)
    assert str(caught.value).endswith(": apt install python3-bpfcc")
