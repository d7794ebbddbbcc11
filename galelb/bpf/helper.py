# SPDX-License-Identifier: Apache-2.0
"""Asks the compiler helper, a process of its own, and turns its answers into errors of ours."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

import attrs

from galelb.bpf.diagnostics import died_message
from galelb.errors import CompileError, EnvironmentProblem, VerifierError

__all__ = ["Helper", "dismiss", "get_ready", "kernel_folder"]

_ready: list[_Started] = []


class _DiedError(CompileError):
    """The compiler's process ended without an answer."""


@attrs.frozen
class _Started:
    """A compiler that waits for its request, and the file that it prints to."""

    process: subprocess.Popen[str]
    printed: IO[str]


def kernel_folder() -> Path:
    """Return the folder that stands in for kernel headers."""
    spec = importlib.util.find_spec("galelb_bpf")
    if spec is None or spec.origin is None:
        raise EnvironmentProblem("the package galelb_bpf is missing: install galelb again")
    return Path(spec.origin).parent / "kernel"


@attrs.frozen(kw_only=True)
class Helper:
    """How to start a compiler. Calls block, and raise CompileError or EnvironmentProblem."""

    python: str = sys.executable
    timeout_s: float = 60

    def compile(self, text: str, functions: Mapping[str, str]) -> dict[str, Any]:
        """Return maps and instructions, see galelb.bpf.compiler."""
        try:
            return self._ask(text, functions, frags=False, explain=False)
        except _DiedError:
            # With line numbers it knows where.
            self._ask(text, functions, frags=False, explain=True)
            raise

    def explain(self, text: str, functions: Mapping[str, str], *, frags: bool) -> None:
        """Raise VerifierError with file and line if one of the functions is refused."""
        self._ask(text, functions, frags=frags, explain=True)

    def _ask(
        self, text: str, functions: Mapping[str, str], *, frags: bool, explain: bool
    ) -> dict[str, Any]:
        request = {
            "kernel": str(kernel_folder()),
            "text": text,
            "functions": dict(functions),
            "frags": frags,
            "explain": explain,
        }
        answer = self._run(json.dumps(request))
        if "error" in answer:
            _raise(answer["error"])
        return answer

    def _run(self, request: str) -> dict[str, Any]:
        try:
            started = _taken(self.python) or _started(self.python)
        except OSError as error:
            raise EnvironmentProblem(f"cannot start {self.python}: {error.strerror}") from None
        with started.printed, started.process as process:
            try:
                said, _ = process.communicate(request, self.timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                message = f"the compiler did not finish within {self.timeout_s:g} s"
                raise CompileError(message) from None
            started.printed.seek(0)
            printed = started.printed.read()
        try:
            return dict(json.loads(said))
        except ValueError:
            raise _DiedError(died_message(printed, process.returncode)) from None


def get_ready(count: int) -> None:
    """Start compilers before there is something to compile; `dismiss` ends those not used.

    Where that fails nothing is said: it fails again, and is told, when one is needed.
    """
    with contextlib.suppress(OSError):
        _ready.extend(_started(sys.executable) for _ in range(count))


def dismiss() -> None:
    """End the compilers that are ready; each takes 70 MB."""
    while started := _taken(sys.executable):
        with started.printed, started.process as process:
            process.kill()


def _taken(python: str) -> _Started | None:
    try:
        return _ready.pop() if python == sys.executable else None
    except IndexError:
        return None


def _started(python: str) -> _Started:
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(dict.fromkeys([root, *filter(None, sys.path)]))
    printed = os.fdopen(os.memfd_create("gale-compiler-output"), "w+", errors="replace")
    try:
        process = subprocess.Popen(
            # It finds everything where we do: looking through site-packages again takes 50 ms.
            [python, "-S", "-P", "-m", "galelb.bpf.compiler"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
    except OSError:
        printed.close()
        raise
    return _Started(process, printed)


def _raise(error: Mapping[str, str]) -> NoReturn:
    if error["kind"] == "compile":
        raise CompileError(error["message"])
    if error["kind"] == "verifier":
        raise VerifierError(error["message"], error["log"])
    raise EnvironmentProblem(error["message"])
