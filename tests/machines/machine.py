# SPDX-License-Identifier: Apache-2.0
"""One machine: a Debian with systemd as PID 1 in namespaces of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from tests.machines.network import NETNS, Network, run

__all__ = ["Machine", "MachineError", "remove_cgroups"]

HERE = Path(__file__).parent
_START_S = 120
_STOP_S = 20
_COMMAND_S = 180
_NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class MachineError(AssertionError):
    """A command in a machine failed; the text quotes what it said."""


@attrs.define
class Machine:
    """A running machine; `machines` starts and removes it."""

    name: str
    namespace: str
    """Of its network, as `ip netns` calls it."""
    networks: tuple[Network, ...]
    number: int
    key: Path
    """The private key that root's account in it accepts."""
    work: Path
    """A folder of the test's, for its log and first files."""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Its IPv4 address on the first network."""
        return self.networks[0].address(self.number)

    @property
    def address6(self) -> str:
        """Its IPv6 address on the first network."""
        return self.networks[0].address6(self.number)

    def addresses(self) -> list[str]:
        """Return its IPv4 address on each network."""
        return [network.address(self.number) for network in self.networks]

    @property
    def cgroup(self) -> str:
        """Its control group, below the root of the hierarchy of systemd."""
        return self.namespace

    @property
    def pid(self) -> int:
        """Its PID 1, as this machine counts."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return int(children.read_text().split()[0])

    @property
    def root(self) -> Path:
        """Its files as seen from here; an absolute symlink in it would lead out of it."""
        return Path(f"/proc/{self.pid}/root")

    @property
    def ssh_options(self) -> list[str]:
        """Options of ssh and scp that reach it without a question; from `network.inside`."""
        values = {
            "BatchMode": "yes",
            "ConnectTimeout": "20",
            "IdentitiesOnly": "yes",
            "LogLevel": "ERROR",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
        }
        return ["-i", str(self.key), *(f"-o{name}={value}" for name, value in values.items())]

    def ssh(self, command: str) -> str:
        """Run a command over ssh from the network, as an administrator would."""
        there = ["ssh", *self.ssh_options, f"root@{self.address}", command]
        return run(self.networks[0].inside(there))

    def enter(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` in the machine as root."""
        own = [f"HOME=/root PATH={_PATH} LANG=C.UTF-8".split(), list(argv)]
        return ["nsenter", "--target", str(self.pid), *_NAMESPACES, "env", "-i", *own[0], *own[1]]

    def run(
        self, *argv: str, text: str | None = None, check: bool = True, timeout: float = _COMMAND_S
    ) -> str:
        """Run a command in it and return what it printed; MachineError when it fails."""
        done = self.attempt(*argv, text=text, timeout=timeout)
        if check and done.returncode:
            said = (done.stdout + done.stderr).strip()
            raise MachineError(f"{self.name}: {' '.join(argv)}: {done.returncode}: {said}")
        return done.stdout

    def attempt(
        self, *argv: str, text: str | None = None, timeout: float = _COMMAND_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that may fail."""
        return subprocess.run(
            self.enter(argv), input=text, capture_output=True, text=True, timeout=timeout,
            check=False,
        )  # fmt: skip

    def put(self, local: Path, remote: str, mode: int | None = None) -> None:
        """Copy a file or a folder into it; folders above are made."""
        target = self.root / remote.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if local.is_dir():
            shutil.copytree(local, target, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copyfile(local, target)
        if mode is not None:
            target.chmod(mode)

    def write(self, remote: str, text: str, mode: int = 0o644) -> None:
        """Write a file in it."""
        target = self.root / remote.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def start(
        self, root: Path, layers: Sequence[Path], hosts: str, sysctls: Mapping[str, str]
    ) -> None:
        """Boot it; `wait` tells when it is up."""
        run(["ip", "netns", "add", self.namespace])
        for network in self.networks:
            network.plug(self.namespace, self.name, self.number)
        inside = ["nsenter", f"--net={NETNS / self.namespace}"]
        for name, value in sysctls.items():
            run([*inside, "sysctl", "-qw", f"{name}={value}"])
        private = ["unshare", "--mount", "--propagation", "private", "--"]
        files = self._first_files(hosts)
        boot = [HERE / "boot.sh", root, self.name, files, *layers]
        # PDEATHSIG: should this process be killed, the machine dies with it.
        command = ["setpriv", "--pdeathsig", "KILL", *inside, *private]
        command += ["sh", HERE / "enter.sh", self.cgroup, "sh", *boot]
        with (self.work / f"{self.name}.log").open("wb") as log:
            self._process = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def wait(self) -> None:
        """Wait until systemd has started all it wants to start, and ssh answers."""
        end = time.monotonic() + _START_S
        while True:
            state = self._state()
            if state == "running":
                return
            if state == "degraded" or time.monotonic() > end:
                raise MachineError(f"{self.name} is {state or 'not up'}: {self._why()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Shut it down, by force if it takes too long; its processes and mounts end with it."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError, IndexError, FileNotFoundError):
            os.kill(self.pid, signal.SIGRTMIN + 3)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Cut its power."""
        if self._process is None:
            return
        try:
            os.kill(self.pid, signal.SIGKILL)
            self._process.wait(_STOP_S)  # it takes PID 1 away once that is dead
        except (ProcessLookupError, IndexError, FileNotFoundError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()

    def _state(self) -> str:
        assert self._process is not None
        if self._process.poll() is not None:
            raise MachineError(f"{self.name} did not boot: {self._log()}")
        try:
            return self.attempt("systemctl", "is-system-running").stdout.strip()
        except IndexError:  # it has no PID 1 yet
            return ""

    def _why(self) -> str:
        failed = self.attempt("systemctl", "--failed", "--no-pager").stdout
        journal = self.attempt("journalctl", "--no-pager", "-n", "60").stdout
        return f"{failed}\n{journal}\n{self._log()}"

    def _log(self) -> str:
        return (self.work / f"{self.name}.log").read_text(errors="replace")

    def _first_files(self, hosts: str) -> Path:
        folder = self.work / f"{self.name}.files"
        for path, text, mode in (
            ("etc/hostname", f"{self.name}\n", 0o644),
            ("etc/hosts", hosts, 0o644),
            ("etc/machine-id", f"{os.urandom(16).hex()}\n", 0o444),
            ("root/.ssh/authorized_keys", self.key.with_suffix(".pub").read_text(), 0o600),
        ):
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(mode)
        (folder / "root").chmod(0o700)
        (folder / "root" / ".ssh").chmod(0o700)
        return folder


def remove_cgroups(names: Sequence[str]) -> None:
    """Remove what systemd made below the machines' control groups; their processes were killed."""
    folders = " ".join(f"/mnt/{name}" for name in names)
    # A group is busy until the last of its processes is gone, which takes a moment.
    script = f"""
        mount -t cgroup2 cgroup2 /mnt
        for turn in $(seq 200); do
            left=
            for one in {folders}; do
                [ ! -d "$one" ] && continue
                find "$one" -depth -type d -exec rmdir {{}} \\; 2>/dev/null
                [ -d "$one" ] && left=$one
            done
            [ -z "$left" ] && exit 0
            sleep 0.05
        done
        echo "processes are left in $left" >&2
        exit 1
    """
    run(["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", script])
