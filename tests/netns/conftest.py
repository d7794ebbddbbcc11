# SPDX-License-Identifier: Apache-2.0
"""Network namespaces of a test's own, joined by veth pairs and gone when it ends."""

import contextlib
import ctypes
import os
import secrets
import subprocess
import threading
from pathlib import Path

import pytest
import trio
from trio._core import _thread_cache

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """One network namespace; `up` must not be needed: loopback is up, IPv6 works at once."""

    def __init__(self, name):
        self.name = name
        _run("ip", "netns", "add", name)
        self.call("sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0")
        self.call("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        self.ip("link", "set", "lo", "up")

    def ip(self, *args):
        """Run `ip` inside; returns its output."""
        return _run("ip", "-n", self.name, *args)

    def call(self, *args):
        """Run a command inside; returns its output."""
        return _run("ip", "netns", "exec", self.name, *args)

    def trio(self, main, *args):
        """Run an async function inside, in a thread made for it; returns its result.

        Threads that it starts are inside too. Never setns in a thread that lives on: its
        children, trio's cached workers among them, would inherit the namespace.
        """
        with _own_workers():
            return self.thread(lambda: trio.run(main, *args))

    def thread(self, function):
        """Run a function inside, in a thread made for it; returns its result."""
        outcome = []

        def inside():
            try:
                _enter(self.name)
                outcome.append((function(), None))
            except BaseException as error:
                outcome.append((None, error))

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    def mac(self, device):
        """Return a device's MAC address."""
        return self.ip("-br", "link", "show", device).split()[2]

    def ifindex(self, device):
        """Return a device's index."""
        return int(self.ip("-o", "link", "show", device).split(":")[0])


class Wires:
    """Makes namespaces and veth pairs, and removes them."""

    def __init__(self):
        self._prefix = f"gale{secrets.token_hex(3)}"
        self._namespaces = []

    def namespace(self, role):
        self._namespaces.append(Namespace(f"{self._prefix}-{role}"))
        return self._namespaces[-1]

    def join(self, one, device, other, peer):
        """Join two namespaces by a veth pair, both ends up."""
        # Made inside: no name is ever taken in the namespace that the tests run in.
        one.ip("link", "add", device, "type", "veth", "peer", "name", peer, "netns", other.name)
        one.ip("link", "set", device, "up")
        other.ip("link", "set", peer, "up")

    def close(self):
        for namespace in self._namespaces:
            if Path("/run/netns", namespace.name).exists():
                _run("ip", "netns", "del", namespace.name)


@pytest.fixture
def wires():
    made = Wires()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def pair(wires):
    """Return (lb, node): joined lb0 - node0 with 10.77.0.1/24, .2/24, fd77::1/64 and ::2/64."""
    lb, node = wires.namespace("lb"), wires.namespace("node")
    wires.join(lb, "lb0", node, "node0")
    for namespace, device, last in ((lb, "lb0", 1), (node, "node0", 2)):
        namespace.ip("addr", "add", f"10.77.0.{last}/24", "dev", device)
        namespace.ip("addr", "add", f"fd77::{last}/64", "dev", device, "nodad")
    return lb, node


@contextlib.contextmanager
def _own_workers():
    """Keep workers that begin inside a namespace from trio's cache, where later tests find them.

    A process that such a worker starts would be in that namespace.
    """
    shared = _thread_cache.THREAD_CACHE
    _thread_cache.THREAD_CACHE = _thread_cache.ThreadCache()
    try:
        yield
    finally:
        _thread_cache.THREAD_CACHE = shared


def _enter(name):
    fd = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(fd, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns to {name}")
    finally:
        os.close(fd)


def _run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
