# SPDX-License-Identifier: Apache-2.0
"""Programs that are ready to run are attached to interfaces where no packet comes by."""

import os
from socket import if_nametoindex

import pytest

from galelb.bpf import syscalls
from galelb.bpf.attach import query_xdp
from galelb.testing.kernel import Sandbox
from galelb.testing.ready import ready

pytestmark = pytest.mark.bpf

NAMES = ("one", "two", "three")
SOURCE = "\n".join(f"int {name}(struct xdp_md *ctx) {{ return 2; }}" for name in NAMES)


def attached(name: str) -> str:
    """The program of an interface."""
    state = query_xdp(if_nametoindex(name))
    return "" if state is None else state.name


def test_programs_are_attached_while_they_are_to_be_ready():
    with Sandbox() as sandbox:
        compiled = sandbox.compile(SOURCE, dict.fromkeys(NAMES, "xdp"))
        fds = [syscalls.obj_get(compiled.programs[name].pin) for name in NAMES]
        before = sandbox.command("ip", "-brief", "link")

        with ready(sandbox, fds):
            found = [sandbox.run(attached, f"ready{end}") for end in ("0", "0x", "1")]
            up = sandbox.command("ip", "-brief", "link", "show", "up")

        for fd in fds:
            os.close(fd)
        assert list(NAMES) == found
        assert "ready" not in up
        assert before == sandbox.command("ip", "-brief", "link")
