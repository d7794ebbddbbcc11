# SPDX-License-Identifier: Apache-2.0
"""Hosts on one switch, each with a card, a name and files of its own, as a page describes them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

__all__ = ["Host", "network"]

_HOLD = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--uts"]
_BIN = Path(sys.executable).parent
"""Where `galelb` is: it may not be on the PATH of whom runs the tests."""
_PATH = f"{_BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_COMMAND_S = 120
# A host sees the files of this machine, and writes to none of them. Its /run is empty.
_OWN_FILES = """
set -e
mount -t tmpfs tmpfs /mnt
for folder in etc root srv var; do
    mkdir -p /mnt/$folder/upper /mnt/$folder/work
    mount -t overlay overlay /$folder \
        -o lowerdir=/$folder,upperdir=/mnt/$folder/upper,workdir=/mnt/$folder/work
done
mount -t tmpfs tmpfs /run
mount -t sysfs sysfs /sys
# As the mount unit does: galelb would mount it where all processes of this machine see it.
mkdir -p /run/galelb/default/bpf
mount -t bpf bpf /run/galelb/default/bpf
ip link set lo up
"""


@attrs.define
class Host:
    """A host while `network` lasts."""

    name: str
    folder: Path
    _holder: subprocess.Popen[bytes]
    _switch: Host | None = None
    _port: str = ""
    _logs: int = 0
    _started: list[subprocess.Popen[bytes]] = attrs.Factory(list)

    @property
    def pid(self) -> int:
        """A process in its namespaces."""
        return self._holder.pid

    def enter(self, script: str) -> list[str]:
        """The command that runs a shell script on the host, as root in root's home."""
        where = ["nsenter", f"--target={self.pid}", "--net", "--mount", "--uts", "--wd=/root"]
        clean = ["env", "-i", f"PATH={_PATH}", "HOME=/root", "LANG=C.UTF-8"]
        return [*where, *clean, "bash", "-c", script]

    def run(self, script: str) -> str:
        """Run a script and return what it printed; fails when the script does."""
        done = self.attempt(script)
        assert done.returncode == 0, f"{self.name}: {script}\n{done.stdout}\n{self.logs()}"
        return done.stdout

    def attempt(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script that may fail; what it says on both streams is in `stdout`."""
        return subprocess.run(
            self.enter(script), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            stdin=subprocess.DEVNULL, timeout=_COMMAND_S, check=False,
        )  # fmt: skip

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file on the host."""
        script = f"mkdir -p $(dirname {path}) && cat > {path} && chmod {mode:o} {path}"
        subprocess.run(self.enter(script), input=text.encode(), check=True, timeout=_COMMAND_S)

    def start(self, script: str) -> None:
        """Start what stays in a terminal of its own."""
        self._logs += 1
        with (self.folder / f"{self.name}.{self._logs}.log").open("wb") as log:
            self._started.append(
                subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", *self.enter(f"exec {script.strip()}")],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )
            )  # fmt: skip

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End all that was started, as Ctrl-C or worse would."""
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, how)
        for process in self._started:
            process.wait(_COMMAND_S)
        self._started.clear()

    def end_one(self, word: str, how: signal.Signals) -> None:
        """End the programs that were started with this word in their command line."""
        for process in list(self._started):
            if word in " ".join(map(str, process.args)):  # type: ignore[arg-type]
                os.killpg(process.pid, how)
                process.wait(_COMMAND_S)
                self._started.remove(process)

    def plug(self, *, up: bool) -> None:
        """Plug its card in, or pull the plug."""
        assert self._switch is not None
        self._switch.run(f"ip link set {self._port} {'up' if up else 'down'}")

    def said(self) -> list[str]:
        """The lines of all that its programs have said."""
        files = sorted(self.folder.glob(f"{self.name}.*.log"))
        return [line for file in files for line in file.read_text().splitlines()]

    def logs(self) -> str:
        """The ends of what its programs have said, for a failure's message."""
        files = sorted(self.folder.glob(f"{self.name}.*.log"))
        return "\n".join(f"-- {f.name}\n{f.read_text(errors='replace')[-3000:]}" for f in files)


@contextlib.contextmanager
def network(addresses: Mapping[str, str], folder: Path) -> Iterator[dict[str, Host]]:
    """Make hosts with these addresses on one network; everything is gone when the block ends.

    Their interface is eth0. No name appears in the network of this machine: namespaces have no
    names, and live as long as a process of ours.
    """
    hosts: dict[str, Host] = {}
    with contextlib.ExitStack() as stack:
        switch = _host("switch", folder, stack)
        switch.run("ip link add name switch type bridge forward_delay 0 && ip link set switch up")
        for number, (name, address) in enumerate(addresses.items()):
            host = hosts[name] = _host(name, folder, stack)
            host.run(_OWN_FILES)
            _plug(switch, host, f"port{number}", address)
        yield hosts


def _host(name: str, folder: Path, stack: contextlib.ExitStack) -> Host:
    # The shell speaks when it has the namespaces; it ends when its input does, so with us.
    script = f"mount --make-rprivate / && hostname {name} && echo ready && read wait"
    holder = subprocess.Popen(
        [*_HOLD, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    host = Host(name, folder, holder)
    stack.callback(_remove, host)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"ready\n", f"{name} has no namespaces"
    return host


def _remove(host: Host) -> None:
    host.end()
    host._holder.kill()
    host._holder.communicate()


def _plug(switch: Host, host: Host, port: str, address: str) -> None:
    switch.run(
        f"ip link add {port} type veth peer name eth0 netns {host.pid} &&"
        f" ip link set {port} master switch up"
    )
    # What a real card does by itself: a veth takes frames of XDP with GRO, and sends checksums.
    switch.run(f"ethtool -K {port} gro on tx off")
    host.run("ethtool -K eth0 gro on tx off")
    host._switch, host._port = switch, port
    host.run(f"ip address add {address}/24 dev eth0 && ip link set eth0 up")
