# SPDX-License-Identifier: Apache-2.0
"""The program that takes packets out of tunnels (bpf/decap.bpf.c), loaded and pinned, and its maps.

Everything here blocks and needs root.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection
from importlib.resources import files
from pathlib import Path
from typing import Any

from galelb.abi import Family
from galelb.bpf.artefacts import Artefacts
from galelb.bpf.attach import pinned_programs, program_id
from galelb.bpf.bpffs import ensure_bpffs, remove_bpffs
from galelb.bpf.compile import Unit, compile_units, forget_old
from galelb.bpf.compose import Part, compose
from galelb.bpf.maps import PinnedMap, close_maps, open_maps
from galelb.node.tunnels import End, Outcome
from galelb.packing import address_from_words, address_words, network_port

__all__ = ["DecapProgram", "decap_unit"]

FUNCTION = "gale_decap"
_PARTS = ("consts.h", "wire.h", "csum.h", "decap.bpf.c")
_PINS = "bpf"
_MOST_OUTER, _MOST_INNER = 4096, 4096


class DecapProgram:
    """The loaded program: `pin` is what to attach, `id` the kernel's. The opener calls `close`."""

    def __init__(self, folder: Path, cache: Path | None = None) -> None:
        """Load and pin it, on a bpffs below `folder`; what is pinned there already is adopted.

        What was compiled is kept in `cache`, for any agent of this machine. Raises BpfError,
        EnvironmentProblem.
        """
        self._pins = ensure_bpffs(folder / _PINS)
        artefacts = Artefacts(cache) if cache else None
        unit = decap_unit(self._pins)
        self._compiled = compile_units([unit], self._pins, cache=folder, artefacts=artefacts)
        self.pin = self._compiled.programs[FUNCTION].pin
        self.id = program_id(self.pin)
        self._maps = open_maps(self._compiled.maps)

    def expect(self, outer: Collection[End], inner: Collection[End]) -> None:
        """Let tunnels end at `outer` whose inner packets go to `inner`. Raises MapError."""
        _fill(self._maps["gale_decap_outer"], outer)
        _fill(self._maps["gale_decap_inner"], inner)

    def expected(self) -> tuple[set[End], set[End]]:
        """Return outer and inner ends as they are in the maps."""
        return _ends(self._maps["gale_decap_outer"]), _ends(self._maps["gale_decap_inner"])

    def statistics(self) -> dict[Outcome, int]:
        """Return packets by outcome since the program was first loaded."""
        counts = self._maps["gale_decap_stats"]
        return {outcome: sum(counts.get(int(outcome)) or ()) for outcome in Outcome}

    def ours(self) -> frozenset[int]:
        """Return the kernel's ids of this program and of older ones that are still pinned."""
        return pinned_programs(self._pins)

    def forget_older(self) -> None:
        """Remove pins of older programs, once no interface runs them."""
        forget_old(self._pins, self._compiled, maps=True)

    def close(self) -> None:
        """Close the maps; what is attached goes on."""
        close_maps(self._maps)

    @staticmethod
    def remove(folder: Path) -> None:
        """Remove what is pinned and the folder; a program that is attached goes on.

        Raises OSError, EnvironmentProblem.
        """
        if not folder.exists():
            return
        for pin in ensure_bpffs(folder / _PINS).iterdir():
            with contextlib.suppress(PermissionError):  # the kernel's own, in every bpffs
                pin.unlink()
        if remove_bpffs(folder / _PINS):
            shutil.rmtree(folder)
            return
        for file in folder.iterdir():
            if file.name != _PINS:
                file.unlink()


def decap_unit(pin_dir: Path) -> Unit:
    """Return what to compile and load."""
    sources = files("galelb_bpf")
    parts = [Part(f"bpf/{name}", sources.joinpath(name).read_text()) for name in _PARTS]
    defines: dict[str, int | str] = {f"GALE_DECAP_{one.name}": int(one) for one in Outcome}
    defines |= {f"GALE_FAMILY_{one.name}": int(one) for one in Family}
    defines |= {
        "GALE_DECAP_OUTCOMES": len(Outcome),
        "GALE_DECAP_OUTER": _MOST_OUTER,
        "GALE_DECAP_INNER": _MOST_INNER,
    }
    # Fragments: so that native XDP takes it whatever the MTU.
    return Unit(compose(parts, defines, pin_dir), {FUNCTION: "xdp"}, frags=True)


def _fill(table: PinnedMap, wanted: Collection[End]) -> None:
    held = _ends(table)
    for end in held.difference(wanted):
        table.delete(_key(end))
    table.update([(_key(end), 1) for end in set(wanted) - held])


def _ends(table: PinnedMap) -> set[End]:
    return {
        End(address_from_words(key["addr"], key["family"]), network_port(key["port"]))
        for key, _ in table.items()
    }


def _key(end: End) -> dict[str, Any]:
    return {
        "addr": address_words(end.address),
        "port": network_port(end.port),
        "family": end.address.version,
    }
