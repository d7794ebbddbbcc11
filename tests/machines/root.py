# SPDX-License-Identifier: Apache-2.0
"""The file system that all machines start from: a small Debian, made once and kept."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["PACKAGES", "debian_root"]

SUITE = "bookworm"
PACKAGES = (
    *("ca-certificates", "curl", "dbus", "ethtool", "git", "iproute2", "libbpf1", "mount"),
    *("nftables", "openssh-server", "procps", "python3", "python3-apt", "python3-bpfcc"),
    *("python3-venv", "sudo", "systemd", "systemd-sysv", "util-linux"),
)
_CACHE = Path("/var/cache/galelb-machines")
_RECIPE = 1
"""Raised when a root is made differently from the same packages."""
_MOST_SECONDS = 900
# Nothing may ask for the network by itself, nor reach what belongs to the kernel of all; there is
# no console to log in at.
_MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "console-getty.service", "getty.target"),
    *("systemd-timesyncd.service", "systemd-networkd.service", "systemd-resolved.service"),
    *("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount"),
    *("dev-hugepages.mount", "systemd-journald-audit.socket", "systemd-modules-load.service"),
)
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


def debian_root(packages: tuple[str, ...] = PACKAGES, cache: Path = _CACHE) -> Path:
    """Return the folder of a Debian with these packages; takes a minute when it is not kept yet.

    Machines only read it. Test runs at the same time wait for the one that makes it.
    """
    names = sorted(set(packages))
    key = hashlib.sha256(repr((_RECIPE, SUITE, names, _MASKED)).encode()).hexdigest()[:12]
    root = cache / f"{SUITE}-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    fd = os.open(cache, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        if not root.is_dir():
            _make(root, names)
    finally:
        os.close(fd)
    return root


def _make(root: Path, packages: list[str]) -> None:
    """Make it under another name first: a run that was killed leaves no half root."""
    half = root.with_name(f"{root.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    left_out = [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(packages)}"]
    command += [*left_out, "--skip=cleanup/reproducible", SUITE, str(half)]
    # Its mounts shall not outlive it, however it ends.
    private = ["unshare", "--mount", "--propagation", "private", "--"]
    done = subprocess.run(
        [*private, *command], capture_output=True, text=True, timeout=_MOST_SECONDS, check=False
    )
    assert done.returncode == 0, f"mmdebstrap: {done.stderr[-3000:]}"
    _finish(half)
    half.rename(root)


def _finish(root: Path) -> None:
    units = root / "etc" / "systemd" / "system"
    for unit in _MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    (root / "etc" / "resolv.conf").unlink(missing_ok=True)
    (root / "etc" / "resolv.conf").write_text("")  # names come from /etc/hosts


if __name__ == "__main__":
    debian_root()
