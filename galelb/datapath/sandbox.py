# SPDX-License-Identifier: Apache-2.0
"""A throw-away corner of the kernel: a bpffs and network namespaces, no leftovers."""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import re
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from galelb.bpf.compile import Compiled, Unit, compile_units
from galelb.bpf.compose import Part, compose
from galelb.errors import EnvironmentProblem

__all__ = ["NsThread", "Sandbox"]

_CLONE_NEWNET = 0x40000000
_PREFIX = "gale-sandbox-"
_NAME = re.compile(rf"^{_PREFIX}(\d+)-")
_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")
_Job = tuple[Callable[[], Any], "queue.SimpleQueue[tuple[Any, BaseException | None]]"]


class NsThread:
    """A thread in a new network namespace of its own, which dies with it, also after kill -9.

    Sockets and child processes that a function makes in it belong to that namespace for ever.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True, name="gale-netns")
        self._thread.start()
        try:
            self.run(_enter_new_namespace)
        except OSError as error:
            self.close()
            raise EnvironmentProblem(f"no new network namespace: {error.strerror}") from None

    @property
    def path(self) -> str:
        """Names the namespace for `ip link set dev X netns PATH` and `nsenter --net=PATH`."""
        return f"/proc/{os.getpid()}/task/{self._thread.native_id}/ns/net"

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in the namespace and return its result; blocks."""
        done: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._jobs.put((lambda: function(*arguments), done))
        result, error = done.get()
        if error is not None:
            raise error
        answer: T = result
        return answer

    def command(self, *words: str) -> str:
        """Run a command in the namespace and return what it printed; raises on failure."""
        return self.run(_command, words)

    def close(self) -> None:
        """End the thread; the kernel removes the namespace and what is in it."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, done = job
            try:
                done.put((function(), None))
            except BaseException as error:
                done.put((None, error))


def _enter_new_namespace() -> None:
    if _libc.unshare(_CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    _command(("ip", "link", "set", "lo", "up"))


def _command(words: tuple[str, ...]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EnvironmentProblem(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


class Sandbox:
    """A bpffs of one's own and a network namespace; a context manager, needs root.

    `pins` is a folder on the bpffs, `run` and `command` work inside the namespace.
    """

    def __init__(self) -> None:
        self.pins = Path()
        self.net: NsThread
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Sandbox:
        if os.geteuid() != 0:
            raise EnvironmentProblem("a bpffs and network namespace of one's own need root")
        _sweep()
        with self._stack:
            self.net = self.namespace()
            self.pins = self._mount()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def namespace(self) -> NsThread:
        """Make one more network namespace; it ends with the sandbox."""
        thread = NsThread()
        self._stack.callback(thread.close)
        return thread

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function inside the network namespace; blocks."""
        return self.net.run(function, *arguments)

    def command(self, *words: str) -> str:
        """Run a command inside the network namespace and return what it printed."""
        return self.net.command(*words)

    def veth(self, name: str, peer: str, *, other: NsThread | None = None) -> tuple[int, int]:
        """Make a veth pair, both ends up, and return their ifindexes.

        `peer` lives in the namespace `other`, else beside `name`.
        """
        self.command("ip", "link", "add", name, "type", "veth", "peer", "name", peer)
        self.command("ip", "link", "set", name, "up")
        home = self.net if other is None else other
        if other is not None:
            self.command("ip", "link", "set", peer, "netns", other.path)
        home.command("ip", "link", "set", peer, "up")
        return self.run(socket.if_nametoindex, name), home.run(socket.if_nametoindex, peer)

    def compile(
        self,
        source: str,
        functions: Mapping[str, str],
        defines: Mapping[str, int | str] | None = None,
        *,
        frags: bool = False,
    ) -> Compiled:
        """Compile, load and pin one C text; functions: name -> "xdp" or "tc"."""
        salt = "frags" if frags else ""
        composition = compose([Part("test.bpf.c", source)], defines or {}, self.pins, salt)
        return compile_units([Unit(composition, functions, frags)], self.pins)

    def _mount(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        _command(("mount", "-t", "bpf", "bpf", str(folder)))
        self._stack.callback(_command, ("umount", "--lazy", str(folder)))
        return folder


def _sweep() -> None:
    """Remove what sandboxes of processes that are gone left behind."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        match = _NAME.match(folder.name)
        if match is None or Path(f"/proc/{match.group(1)}").exists():
            continue
        with contextlib.suppress(EnvironmentProblem):
            _command(("umount", "--lazy", str(folder)))
        with contextlib.suppress(OSError):
            folder.rmdir()
