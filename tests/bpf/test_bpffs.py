# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from galelb.bpf.bpffs import ensure_bpffs, is_bpffs
from galelb.errors import EnvironmentProblem
from galelb.testing.kernel import Sandbox

pytestmark = pytest.mark.bpf

# A PID namespace gives us a PID 1 of our own, with mounts that are not those of the tests.
AS_PID_1 = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "sh", "-ec"]
PRIVATE = "unshare --mount --propagation private"
ENSURE = """
import sys
from pathlib import Path
from galelb.bpf.bpffs import ensure_bpffs

used = ensure_bpffs(Path(sys.argv[1]))
(used / "made-inside").mkdir(exist_ok=True)
print(used)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "deep" / "bpf"
    yield path
    while path.is_dir() and is_bpffs(path):
        subprocess.run(["umount", str(path)], check=True)


def as_pid_1(script: str, *arguments: str) -> list[str]:
    command = [*AS_PID_1, script, "sh", sys.executable, ENSURE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout.splitlines()


def test_a_path_on_a_bpffs_is_used_as_it_is(sandbox: Sandbox) -> None:
    assert sandbox.pins == ensure_bpffs(sandbox.pins)
    assert is_bpffs(sandbox.pins)


def test_a_bpffs_is_mounted_where_there_is_none(folder: Path) -> None:
    first = ensure_bpffs(folder)
    (first / "pins").mkdir()
    second = ensure_bpffs(folder)

    assert (folder, folder) == (first, second)
    assert ["pins"] == [p.name for p in folder.iterdir() if p.is_dir()]
    subprocess.run(["umount", str(folder)], check=True)
    assert not is_bpffs(folder)


def test_from_private_mounts_it_is_mounted_for_pid_1(folder: Path) -> None:
    script = f'{PRIVATE} "$1" -c "$2" "$3"; stat -f -c %T "$3"; ls "$3"'

    used, kind, *content = as_pid_1(script, str(folder))

    assert f"/proc/1/root{folder}" == used
    assert "bpf_fs" == kind
    assert "made-inside" in content


def test_a_second_start_from_private_mounts_adopts(folder: Path) -> None:
    start = f'{PRIVATE} "$1" -c "$2" "$3"'
    script = f'{start}; {start}; grep -c " $3 " /proc/1/mountinfo'

    first, second, mounts = as_pid_1(script, str(folder))

    # Private mounts made later inherit the mount, so that no detour is needed any more.
    assert (f"/proc/1/root{folder}", str(folder), "1") == (first, second, mounts)


def test_where_pid_1_is_closed_another_process_is_the_door(folder: Path) -> None:
    """`ip netns exec` on a machine whose PID 1 has more capabilities than root."""
    reader = "import sys; from galelb.bpf import bpffs; print(bpffs.is_bpffs(sys.argv[1]))"
    start = f'{PRIVATE} "$1" -c "$2" "$3"'
    # Dropping a capability in all but PID 1 closes PID 1 to them.
    drop = "setpriv --bounding-set -sys_time --inh-caps -sys_time"
    script = f"{drop} sh -ec 'sleep 60 & {start}; {start}; kill $!' sh \"$@\"; $1 -c '{reader}' $3"

    first, second, seen = as_pid_1(script, str(folder))

    assert first.startswith("/proc/")
    assert str(folder) == second
    assert seen == "True"


def test_mounts_made_before_are_seen_from_private_ones(folder: Path) -> None:
    folder.mkdir(parents=True)
    script = f'mount -t bpf bpf "$3"; {PRIVATE} "$1" -c "$2" "$3"'

    assert [str(folder)] == as_pid_1(script, str(folder))


def test_a_path_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(EnvironmentProblem, match=r"mount -t bpf bpf .*/file/bpf"):
        ensure_bpffs(tmp_path / "file" / "bpf")


def test_a_mount_that_is_refused_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mount", "mkdir"):
        script = tmp_path / name
        script.write_text('#!/bin/sh\n[ "${0##*/}" = mkdir ] || { echo denied >&2; exit 1; }\n')
        script.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(EnvironmentProblem, match=r"no bpffs at .* \(denied\): run as root"):
        ensure_bpffs(tmp_path / "bpf")


LESS = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "--"]


def with_few_rights(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run Python that may not mount."""
    command = [*LESS, sys.executable, "-c", code, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_who_may_not_mount_uses_what_is_mounted_and_leaves_it(folder: Path) -> None:
    ensure_bpffs(folder)

    done = with_few_rights(ENSURE, folder)

    assert (0, f"{folder}\n") == (done.returncode, done.stdout)
    remove = "from galelb.bpf.bpffs import remove_bpffs; from pathlib import Path; import sys\n"
    remove += "print(remove_bpffs(Path(sys.argv[1])), remove_bpffs(Path(sys.argv[1]).parent))"
    assert "False True\n" == with_few_rights(remove, folder).stdout
    assert is_bpffs(folder)


def test_who_may_not_mount_is_told_who_can(folder: Path) -> None:
    done = with_few_rights(ENSURE, folder)

    assert 0 != done.returncode
    assert "this process may not mount it; under systemd a .mount unit does" in done.stderr
    assert f"mount -t bpf bpf {folder}" in done.stderr
