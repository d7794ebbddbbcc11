# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from galelb.bpf.bpffs import is_bpffs
from galelb.errors import EnvironmentProblem
from galelb.testing.kernel import NsThread, Sandbox

pytestmark = pytest.mark.bpf


def test_a_sandbox_leaves_nothing() -> None:
    with Sandbox() as sandbox:
        sandbox.veth("gale0", "gale1", other=sandbox.namespace())
        folder = sandbox.pins
        inside = is_bpffs(folder)

    assert inside
    assert not folder.exists()
    assert str(folder) not in Path("/proc/self/mounts").read_text()
    assert [] == [t for t in threading.enumerate() if t.name == "gale-netns"]


def test_its_network_is_its_own(sandbox: Sandbox) -> None:
    peer = sandbox.namespace()
    here, there = sandbox.veth("gale0", "gale1", other=peer)

    assert "gale0" in sandbox.command("ip", "link", "show", "dev", "gale0")
    assert "gale1" in peer.command("ip", "link", "show", "dev", "gale1")
    assert here > 1
    assert there > 1
    with pytest.raises(EnvironmentProblem, match="gale1"):
        sandbox.command("ip", "link", "show", "dev", "gale1")
    assert not Path("/sys/class/net/gale0").exists()


def test_errors_come_out_of_the_thread() -> None:
    thread = NsThread()
    try:
        with pytest.raises(ZeroDivisionError):
            thread.run(lambda: 1 // 0)
        assert 7 == thread.run(int, "7")
    finally:
        thread.close()


def test_the_next_sandbox_removes_what_a_killed_one_left() -> None:
    code = (
        "import os; from galelb.testing.kernel import Sandbox\n"
        "s = Sandbox().__enter__(); print(s.pins, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    left = Path(done.stdout.strip())
    before = is_bpffs(left)

    with Sandbox():
        after = left.exists()

    assert (True, False) == (before, after)
