# SPDX-License-Identifier: Apache-2.0
"""Whether this machine can compile, load and attach programs at all."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from pathlib import Path

import attrs

from galelb.bpf import libbpf
from galelb.bpf.bpffs import is_bpffs
from galelb.bpf.find_bcc import MEND, Bcc, BccMissing, find_bcc
from galelb.bpf.helper import Helper
from galelb.bpf.syscalls import PROG_TYPE_XDP, LoadError, prog_load
from galelb.doctor.findings import Finding, fail, ok, warn
from galelb.errors import GaleError

__all__ = ["MachineFacts", "check_machine", "gather_machine"]

_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
_PROGRAM = "int gale_doctor(struct xdp_md *ctx) { return XDP_PASS; }"
# r0 = 2 (XDP_PASS); exit
_INSTRUCTIONS = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 2, 0x95, 0, 0, 0)


@attrs.frozen(kw_only=True)
class MachineFacts:
    """What programs need of a machine; an error is a text, empty when there is none."""

    kernel: str
    missing_capabilities: tuple[str, ...] = ()
    load_error: str = ""
    """Why the kernel refuses the smallest program."""
    jit: str | None = "1"
    """net.core.bpf_jit_enable; None where it cannot be seen, as in a network namespace."""
    bcc: Bcc | None = None
    """None when it is not installed; `bcc_missing` then says where it was looked for."""
    bcc_missing: str = ""
    compile_error: str = ""
    libbpf: str | None = ""
    """Version; None when it is missing."""
    bpffs_mounted: bool = True
    bpffs_known: bool = True
    """Whether the kernel has that file system."""


def gather_machine(pins: Path) -> MachineFacts:
    """Look at this machine; `pins` is where programs would be pinned. Blocks, half a second."""
    bcc, bcc_missing = _bcc()
    return MachineFacts(
        kernel=platform.release(),
        missing_capabilities=tuple(_missing_capabilities()),
        load_error=_load_error(),
        jit=_read("/proc/sys/net/core/bpf_jit_enable"),
        bcc=bcc,
        bcc_missing=bcc_missing,
        compile_error=_compile_error() if bcc is not None else "",
        libbpf=_libbpf_version(),
        bpffs_mounted=is_bpffs(pins),
        bpffs_known="\tbpf\n" in (_read("/proc/filesystems", strip=False) or ""),
    )


def _read(path: str, *, strip: bool = True) -> str | None:
    try:
        text = Path(path).read_text()
    except OSError:
        return None
    return text.strip() if strip else text


def _missing_capabilities() -> Iterator[str]:
    lines = (_read("/proc/self/status") or "").splitlines()
    found = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "0")
    for name, bit in _CAPABILITIES.items():
        if not int(found, 16) >> bit & 1:
            yield name


def _load_error() -> str:
    try:
        os.close(prog_load(PROG_TYPE_XDP, _INSTRUCTIONS, name="gale_doctor"))
    except LoadError as error:
        return error.strerror or str(error)
    return ""


def _bcc() -> tuple[Bcc | None, str]:
    try:
        return find_bcc(), ""
    except BccMissing as missing:
        return None, missing.text


def _compile_error() -> str:
    try:
        Helper().compile(_PROGRAM, {"gale_doctor": "xdp"})
    except GaleError as error:
        return str(error)
    return ""


def _libbpf_version() -> str | None:
    try:
        library = libbpf.library()
    except GaleError:
        return None
    try:
        library.libbpf_version_string.restype = ctypes.c_char_p
        version: bytes = library.libbpf_version_string()
    except AttributeError:
        return ""
    return version.decode().removeprefix("v")


def check_machine(facts: MachineFacts) -> Iterator[Finding]:
    """Judge the facts."""
    yield _capabilities(facts)
    yield _kernel(facts)
    if facts.jit == "0":
        text = "the kernel interprets BPF programs, which makes them many times slower"
        yield warn("bpf jit", text, "sysctl -w net.core.bpf_jit_enable=1")
    elif facts.jit is not None:
        yield ok("bpf jit", "BPF programs run as machine code")
    yield _compiler(facts)
    yield _library(facts)
    yield _bpffs(facts)


def _capabilities(facts: MachineFacts) -> Finding:
    if facts.missing_capabilities:
        missing = " and ".join(facts.missing_capabilities)
        text = f"this process lacks {missing}: run as root, in a container with these capabilities"
        return fail("capabilities", text)
    return ok("capabilities", "enough to load and attach programs")


def _kernel(facts: MachineFacts) -> Finding:
    if facts.load_error:
        return fail("kernel", f"Linux {facts.kernel} takes no BPF programs: {facts.load_error}")
    return ok("kernel", f"Linux {facts.kernel} takes BPF programs")


def _compiler(facts: MachineFacts) -> Finding:
    if facts.bcc is None:
        return fail("compiler", facts.bcc_missing, MEND)
    which = f"bcc {facts.bcc.version}".rstrip() + f" in {facts.bcc.folder}"
    if facts.compile_error:
        return fail("compiler", f"{which} cannot compile: {facts.compile_error}", MEND)
    return ok("compiler", f"{which} compiles")


def _library(facts: MachineFacts) -> Finding:
    if facts.libbpf is None:
        return fail("libbpf", "libbpf.so.1 is missing", "apt install libbpf1")
    return ok("libbpf", f"version {facts.libbpf}" if facts.libbpf else "found")


def _bpffs(facts: MachineFacts) -> Finding:
    if facts.bpffs_mounted:
        return ok("bpffs", "mounted")
    if not facts.bpffs_known:
        return fail("bpffs", "this kernel has no bpf file system (CONFIG_BPF_SYSCALL)")
    return ok("bpffs", "not mounted yet; `galelb run` does that")
