# SPDX-License-Identifier: Apache-2.0
"""Gets units compiled, loaded and pinned; what is pinned already is adopted."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache as memoize
from pathlib import Path
from typing import Any

import attrs

from galelb.bpf import syscalls
from galelb.bpf.artefacts import Artefacts
from galelb.bpf.build import Order, build
from galelb.bpf.compose import Composition, digest
from galelb.bpf.helper import Helper, dismiss, kernel_folder
from galelb.bpf.layout import MapLayout, MapType, ProgramLayout
from galelb.bpf.loader import make_pin_folder
from galelb.errors import CompileError, MapError

__all__ = ["Compiled", "Unit", "compile_units", "forget_old"]

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

    def order(self, pin_dir: Path) -> Order:
        """Return what to build."""
        return Order(
            composition=self.composition,
            functions=self.functions,
            frags=self.frags,
            key=self.digest,
            pins=self.pins(pin_dir),
        )


@attrs.frozen
class Compiled:
    """Everything that is loaded and pinned, by name. `cached`: nothing had to be compiled."""

    maps: Mapping[str, MapLayout]
    programs: Mapping[str, ProgramLayout]
    cached: bool = False


def compile_units(
    units: Sequence[Unit],
    pin_dir: Path,
    *,
    cache: Path | None = None,
    artefacts: Artefacts | None = None,
    python: str = sys.executable,
    timeout_s: float = 60,
) -> Compiled:
    """Compile, load and pin; blocks for some tenths of a second, so use a worker thread.

    With a `cache` folder the answer is kept there, and when all pins of it still exist it is
    given again without compiling: that is how a restart adopts. With `artefacts`, a text that
    was compiled before is loaded without a compiler. Raises CompileError, VerifierError,
    MapError, EnvironmentProblem.
    """
    _check_names(units)
    try:
        answers = [_read_cache(cache, unit, pin_dir) for unit in units]
        known = [answer for answer in answers if answer is not None]
        if len(known) == len(units):
            return _compiled(units, known, pin_dir, cached=True)
        make_pin_folder(pin_dir)
        _check_shapes(units)
        helper = Helper(python=python, timeout_s=timeout_s)
        fresh = build([unit.order(pin_dir) for unit in units], helper, artefacts)
    finally:
        dismiss()
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


def _check_shapes(units: Sequence[Unit]) -> None:
    """Refuse units that mean different maps by one name; compose gives program arrays any."""
    pins: dict[str, Path] = {}
    for unit in units:
        for name, pin in unit.composition.maps.items():
            if pins.setdefault(name, pin) != pin and name not in unit.composition.program_arrays:
                raise MapError(name, "compile", "two units declare it with different shapes")


@memoize
def _kernel_digest() -> str:
    folder = kernel_folder()
    return digest(*(path.read_text() for path in sorted(folder.rglob("*.h"))), os.uname().release)


def _compiled(
    units: Sequence[Unit], answers: Sequence[Mapping[str, Any]], pin_dir: Path, *, cached: bool
) -> Compiled:
    maps: dict[str, MapLayout] = {}
    programs: dict[str, ProgramLayout] = {}
    for unit, answer in zip(units, answers, strict=True):
        for name, fields in answer["maps"].items():
            maps[name] = MapLayout(name=name, pin=unit.composition.maps[name], **fields)
        pins = unit.pins(pin_dir)
        for name, fields in answer["programs"].items():
            programs[name] = ProgramLayout(function=name, pin=pins[name], **fields)
    return Compiled(maps, programs, cached)


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
    partial = path.with_suffix(".new")
    # A full or read-only disk costs the next start its short cut, not this one.
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(answer))
        partial.replace(path)
