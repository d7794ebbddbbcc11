# SPDX-License-Identifier: Apache-2.0
"""Asks the compiler helper for loaded, pinned programs; what is pinned already is adopted."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache as memoize
from pathlib import Path
from typing import Any, NoReturn

import attrs

from galelb.bpf import syscalls
from galelb.bpf.compose import Composition, digest
from galelb.bpf.layout import MapLayout, MapType, ProgramLayout
from galelb.errors import CompileError, EnvironmentProblem, MapError, VerifierError

__all__ = ["Compiled", "Unit", "compile_units", "forget_old", "kernel_folder"]

_PIN = re.compile(r"^\w+(-\w+)?-[0-9a-f]{12}$")


@attrs.frozen
class Unit:
    """A text and the functions to load from it: name -> "xdp" or "tc".

    With `frags`, XDP programs declare that they can handle packets of several pages.
    """

    composition: Composition
    functions: Mapping[str, str]
    frags: bool = False

    @property
    def digest(self) -> str:
        """Changes with anything that could change the loaded programs."""
        how = json.dumps([sorted(self.functions.items()), self.frags])
        return digest(self.composition.digest, how, _kernel_digest())

    def pins(self, pin_dir: Path) -> dict[str, Path]:
        """Return where each function is pinned."""
        return {name: pin_dir / f"prog-{name}-{self.digest}" for name in self.functions}


@attrs.frozen
class Compiled:
    """Everything that is loaded and pinned, by name. `cached`: nothing had to be compiled."""

    maps: Mapping[str, MapLayout]
    programs: Mapping[str, ProgramLayout]
    cached: bool = False


def kernel_folder() -> Path:
    """Return the folder that stands in for kernel headers."""
    spec = importlib.util.find_spec("galelb_bpf")
    if spec is None or spec.origin is None:
        raise EnvironmentProblem("the package galelb_bpf is missing: install galelb again")
    return Path(spec.origin).parent / "kernel"


def compile_units(
    units: Sequence[Unit],
    pin_dir: Path,
    *,
    cache: Path | None = None,
    python: str = sys.executable,
    timeout_s: float = 60,
) -> Compiled:
    """Compile, load and pin; blocks for some tenths of a second, so use a worker thread.

    With a `cache` folder the answer is kept there, and when all pins of it still exist it is
    given again without compiling: that is how a restart adopts. Raises CompileError,
    VerifierError, EnvironmentProblem.
    """
    _check_names(units)
    answers = [_read_cache(cache, unit, pin_dir) for unit in units]
    known = [answer for answer in answers if answer is not None]
    if len(known) == len(units):
        return _compiled(units, known, pin_dir, cached=True)
    _make_folder(pin_dir)
    fresh = _ask(units, pin_dir, python, timeout_s)
    for unit, answer in zip(units, fresh, strict=True):
        _write_cache(cache, unit, answer)
    return _compiled(units, fresh, pin_dir, cached=False)


def forget_old(pin_dir: Path, keep: Compiled, *, maps: bool = False) -> list[Path]:
    """Remove pins of older programs and program arrays, with `maps` of all older maps too.

    Returns what was removed. What is still attached or used by a loaded program lives on in
    the kernel; only its name goes.
    """
    kept = {m.pin for m in keep.maps.values()} | {p.pin for p in keep.programs.values()}
    removed = []
    for path in sorted(pin_dir.iterdir()):
        if path in kept or not _PIN.match(path.name) or not (maps or _is_code(path)):
            continue
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            removed.append(path)
    return removed


def _make_folder(pin_dir: Path) -> None:
    try:
        pin_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(f"cannot make {pin_dir} for pins: {error.strerror}") from None


def _is_code(path: Path) -> bool:
    if path.name.startswith("prog-"):
        return True
    try:
        fd = syscalls.obj_get(path)
    except OSError:
        return False
    try:
        return syscalls.map_info(fd).type == MapType.PROG_ARRAY
    except OSError:
        return False  # a program or link of somebody else
    finally:
        os.close(fd)


def _check_names(units: Sequence[Unit]) -> None:
    names = [name for unit in units for name in unit.functions]
    if len(names) != len(set(names)):
        raise CompileError(f"two units load a function of the same name: {', '.join(names)}")


@memoize
def _kernel_digest() -> str:
    folder = kernel_folder()
    return digest(*(path.read_text() for path in sorted(folder.rglob("*.h"))), os.uname().release)


def _ask(
    units: Sequence[Unit], pin_dir: Path, python: str, timeout_s: float
) -> list[dict[str, Any]]:
    request = {
        "kernel": str(kernel_folder()),
        "units": [
            {
                "text": unit.composition.text,
                "functions": dict(unit.functions),
                "frags": unit.frags,
                "pins": {name: str(pin) for name, pin in unit.pins(pin_dir).items()},
            }
            for unit in units
        ],
    }
    answer = _run_helper(json.dumps(request), python, timeout_s)
    if "error" in answer:
        _raise(answer["error"])
    return list(answer["units"])


def _run_helper(request: str, python: str, timeout_s: float) -> dict[str, Any]:
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    command = [python, "-P", "-m", "galelb.bpf.compiler"]
    try:
        done = subprocess.run(
            command,
            input=request,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=os.environ | {"PYTHONPATH": path},
        )
    except subprocess.TimeoutExpired:
        raise CompileError(f"the compiler did not finish within {timeout_s:g} s") from None
    except OSError as error:
        raise EnvironmentProblem(f"cannot start {python}: {error.strerror}") from None
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise CompileError(f"the compiler ended with {done.returncode}: {said[0]}") from None


def _raise(error: Mapping[str, str]) -> NoReturn:
    if error["kind"] == "compile":
        raise CompileError(error["message"])
    if error["kind"] == "verifier":
        raise VerifierError(error["message"], error["log"])
    raise EnvironmentProblem(error["message"])


def _compiled(
    units: Sequence[Unit], answers: Sequence[Mapping[str, Any]], pin_dir: Path, *, cached: bool
) -> Compiled:
    maps: dict[str, MapLayout] = {}
    programs: dict[str, ProgramLayout] = {}
    for unit, answer in zip(units, answers, strict=True):
        for name, fields in answer["maps"].items():
            layout = MapLayout(name=name, pin=unit.composition.maps[name], **fields)
            _check_shared(maps.setdefault(name, layout), layout)
        pins = unit.pins(pin_dir)
        for name, fields in answer["programs"].items():
            programs[name] = ProgramLayout(function=name, pin=pins[name], **fields)
    return Compiled(maps, programs, cached)


def _check_shared(first: MapLayout, second: MapLayout) -> None:
    """Refuse units that mean different maps by one name, program arrays aside."""
    if first.pin != second.pin and first.type != MapType.PROG_ARRAY:
        raise MapError(first.name, "compile", "two units declare it with different shapes")


def _cache_file(cache: Path, unit: Unit) -> Path:
    return cache / f"layout-{unit.digest}.json"


def _read_cache(cache: Path | None, unit: Unit, pin_dir: Path) -> dict[str, Any] | None:
    """Return the kept answer if every pin that it speaks of exists."""
    if cache is None:
        return None
    try:
        answer = dict(json.loads(_cache_file(cache, unit).read_text()))
        pins = [unit.composition.maps[name] for name in answer["maps"]]
    except (OSError, ValueError, KeyError):
        return None
    pins += unit.pins(pin_dir).values()
    return answer if all(pin.exists() for pin in pins) else None


def _write_cache(cache: Path | None, unit: Unit, answer: Mapping[str, Any]) -> None:
    if cache is None:
        return
    path = _cache_file(cache, unit)
    cache.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".new")
    partial.write_text(json.dumps(answer))
    partial.replace(path)
