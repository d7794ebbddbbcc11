# SPDX-License-Identifier: Apache-2.0
"""The compiler helper: a process of its own that compiles one text, then ends.

Reads one JSON request on stdin and writes one JSON answer on stdout. A request is `{"kernel": DIR,
"text", "functions": {NAME: "xdp"|"tc"}, "frags", "explain"}`, the answer `{"maps": {NAME: {...}},
"programs": {NAME: {"code": BASE64, "maps": {OFFSET: NAME}}}, "compiler": {...}}` or `{"error":
{"kind": "compile"|"verifier"|"environment", "message", "log"}}`. With "explain" the programs are
loaded as well, with line numbers and maps of full size, to say why the verifier refuses one;
the answer is `{}` if it does not. The only importer of bcc, which costs 100 MB.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from galelb.bpf import diagnostics, syscalls
from galelb.bpf.find_bcc import MEND, find_bcc
from galelb.errors import EnvironmentProblem

__all__ = ["main"]

_ATTACH_TYPE_XDP = 37
_XDP_HAS_FRAGS = 32
_PROGRAM_TYPES = {"xdp": syscalls.PROG_TYPE_XDP, "tc": syscalls.PROG_TYPE_SCHED_CLS}
_LOAD_IMMEDIATE = 0x18
_MAP_BY_FD = 1  # BPF_PSEUDO_MAP_FD in the upper half of an instruction's registers
# A misspelt function would be a call to nowhere, of which the verifier says "jump out of range".
_STRICT = ["-Werror=implicit-function-declaration"]
# Programs are the same without debug information, and ready in five sixths of the time.
_FAST = [*_STRICT, "-g0", "-DGALE_ENTRIES(n)=1"]
_EXPLAINING = [*_STRICT, "-DGALE_ENTRIES(n)=n"]
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_NOBODY = 65534


class Failure(Exception):  # noqa: N818 - it is an answer, not an error of this process
    """Something to tell the client."""

    def __init__(self, kind: str, message: str, log: str = "") -> None:
        super().__init__(message)
        self.answer = {"error": {"kind": kind, "message": message, "log": log}}


class Output:
    """Collects what C libraries print on stdout and stderr while we work.

    Stderr is a file of the client's, who reads there what LLVM says when it ends the process.
    """

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(2), "w+b")
        os.dup2(2, 1)

    def take(self) -> str:
        """Return what was printed since the last call."""
        self._file.seek(0)
        text = self._file.read().decode(errors="replace")
        self._file.seek(0)
        self._file.truncate()
        return text


def import_bcc() -> Any:
    """Import the bcc that is found, and see no other package of its folder by that."""
    try:
        folder = find_bcc().folder
    except EnvironmentProblem as problem:
        raise Failure("environment", str(problem)) from None
    spec = importlib.util.spec_from_file_location("bcc", folder / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    bcc = importlib.util.module_from_spec(spec)
    sys.modules["bcc"] = bcc  # in place of what else may be called so
    try:
        with warnings.catch_warnings(action="ignore"):  # Python from 3.12 dislikes its literals
            spec.loader.exec_module(bcc)
    except Exception as error:  # a library that is missing or does not fit, whatever is said
        message = f"bcc in {folder} cannot be used: {error}; {MEND}"
        raise Failure("environment", message) from None
    return bcc


def spare_kernel_symbols() -> None:
    """Keep all capabilities, but be somebody else than root, wherever that is possible.

    For root, bcc reads the names of everything in the kernel, which only tracing needs: a third
    of the time to compile.
    """
    if ctypes.CDLL(None).prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0) == 0:
        with contextlib.suppress(OSError):
            os.seteuid(_NOBODY)


class Module:
    """One text, compiled; its maps live as long as the process."""

    def __init__(self, bcc: Any, request: dict[str, Any], output: Output) -> None:
        self._lib = bcc.lib
        self._unit = request
        self._output = output
        flags = _EXPLAINING if request["explain"] else _FAST
        try:
            self._bpf = bcc.BPF(text=request["text"], allow_rlimit=False, cflags=flags)
        except Exception:  # bcc raises nothing more precise
            raise _compile_failure(output.take()) from None
        output.take()
        self._names = self._map_names()

    def _map_names(self) -> list[bytes]:
        module = self._bpf.module
        self._lib.bpf_num_tables.restype = ctypes.c_size_t
        self._lib.bpf_num_tables.argtypes = [ctypes.c_void_p]
        self._lib.bpf_table_name.restype = ctypes.c_char_p
        self._lib.bpf_table_name.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        count = self._lib.bpf_num_tables(module)
        return [self._lib.bpf_table_name(module, number) for number in range(count)]

    def maps(self) -> dict[str, Any]:
        """Describe all maps, but for their sizes."""
        return {name.decode(): self._describe(name) for name in self._names}

    def _describe(self, name: bytes) -> dict[str, Any]:
        module = self._bpf.module
        info = syscalls.map_info(self._lib.bpf_table_fd(module, name))
        return {
            "type": info.type,
            "key": json.loads(self._lib.bpf_table_key_desc(module, name)),
            "leaf": json.loads(self._lib.bpf_table_leaf_desc(module, name)),
            "key_size": info.key_size,
            "leaf_size": info.leaf_size,
            "flags": info.flags,
        }

    def programs(self) -> dict[str, Any]:
        """Return the instructions of all functions, with maps by name."""
        fds = {self._lib.bpf_table_fd(self._bpf.module, name): name for name in self._names}
        return {name: self._program(name, fds) for name in self._unit["functions"]}

    def _program(self, name: str, fds: dict[int, bytes]) -> dict[str, Any]:
        code = bytearray(self._instructions(name))
        maps = {}
        for at in range(0, len(code), 8):
            if code[at] == _LOAD_IMMEDIATE and code[at + 1] >> 4 == _MAP_BY_FD:
                fd = int.from_bytes(code[at + 4 : at + 8], sys.byteorder)
                maps[at] = fds[fd].decode()
                code[at + 4 : at + 8] = bytes(4)
        return {"code": base64.b64encode(code).decode(), "maps": maps}

    def load(self) -> dict[str, int]:
        """Load all functions and return their fds, which live until the process ends."""
        return {name: self._load(name, kind) for name, kind in self._unit["functions"].items()}

    def _load(self, name: str, kind: str) -> int:
        if kind == "xdp" and self._unit["frags"]:
            # bcc cannot ask for fragment support; on refusal its own load explains better.
            with contextlib.suppress(OSError):
                return syscalls.prog_load(
                    _PROGRAM_TYPES[kind],
                    self._instructions(name),
                    name=name,
                    flags=_XDP_HAS_FRAGS,
                    attach_type=_ATTACH_TYPE_XDP,
                )
        try:
            function = self._bpf.load_func(name.encode(), _PROGRAM_TYPES[kind])
        except Exception as error:  # bcc raises nothing more precise
            raise self._load_failure(name, error) from None
        if kind == "xdp" and self._unit["frags"]:
            message = (
                f"{name}: the kernel has no XDP with fragments (needs 5.18), or one of its"
                " prog_arrays was pinned without (compose with another salt)"
            )
            raise Failure("environment", message)
        return int(function.fd)

    def _instructions(self, name: str) -> bytes:
        try:
            return bytes(self._bpf.dump_func(name.encode()))
        except Exception as error:  # bcc raises nothing more precise
            raise self._load_failure(name, error) from None

    def _load_failure(self, name: str, error: Exception) -> Failure:
        printed = self._output.take()
        if "Unknown program" in str(error):
            return Failure("compile", f"no function {name} is defined")
        problem = diagnostics.refused_by_environment(str(error) + printed)
        if problem is not None or "super-user" in str(error):
            return Failure("environment", problem or "loading BPF programs needs root")
        message = diagnostics.verifier_message(name, printed, self._unit["text"])
        return Failure("verifier", message, diagnostics.tail(printed))


def _compile_failure(printed: str) -> Failure:
    problem = diagnostics.refused_by_environment(printed)
    if problem is not None:
        return Failure("environment", problem)
    return Failure("compile", diagnostics.clang_message(printed), diagnostics.tail(printed))


def _library() -> dict[str, Any]:
    """Tell which libbcc this is: another one may compile otherwise."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    path = next((line.split()[-1] for line in maps if "libbcc.so" in line), None)
    if path is None:
        return {}
    stat = Path(path).stat()
    return {"path": path, "size": stat.st_size, "changed_ns": stat.st_mtime_ns}


def compile_request(bcc: Any, request: dict[str, Any], output: Output) -> dict[str, Any]:
    """Compile; load only to explain."""
    os.environ["BCC_KERNEL_SOURCE"] = request["kernel"]
    module = Module(bcc, request, output)
    if request["explain"]:
        module.load()
        return {}
    return {"maps": module.maps(), "programs": module.programs(), "compiler": _library()}


@contextlib.contextmanager
def _answering() -> Iterator[Any]:
    """Give the real stdout for the answer, and keep libraries from writing to it."""
    with os.fdopen(os.dup(1), "w") as answer:
        yield answer


def main() -> None:
    """Answer one request, if one comes; the exit status is 0 whenever there is an answer."""
    with _answering() as answer:
        output = Output()
        try:
            bcc = import_bcc()  # before the request is read: it may be a while in coming
            spare_kernel_symbols()
            request = sys.stdin.read()
            result = compile_request(bcc, json.loads(request), output) if request else {}
        except Failure as failure:
            result = failure.answer
        json.dump(result, answer)
        answer.flush()
        # bcc would detach and free in atexit handlers; the kernel does it faster.
        os._exit(0)


if __name__ == "__main__":
    main()
