# SPDX-License-Identifier: Apache-2.0
"""The program that takes packets out of tunnels (bpf/decap.bpf.c), loaded and pinned, and its maps.

Everything here blocks and needs root.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from importlib.resources import files
from pathlib import Path
from typing import Any

import attrs

from galelb.abi import Family
from galelb.bpf.artefacts import Artefacts
from galelb.bpf.bpffs import ensure_bpffs, remove_bpffs
from galelb.bpf.compile import Unit, compile_units, forget_old
from galelb.bpf.compose import Part, compose
from galelb.bpf.maps import PinnedMap, close_maps, open_maps
from galelb.model import IPAddress
from galelb.packing import address_from_words, address_words, network_port

__all__ = ["DecapProgram", "End", "Outcome", "decap_unit"]

FUNCTION = "gale_decap"
_PARTS = ("consts.h", "wire.h", "csum.h", "decap.bpf.c")
_MOST_OUTER, _MOST_INNER = 4096, 4096


class Outcome(enum.IntEnum):
    """What became of a packet; the index of its counter."""

    PASSED = 0  # expected: no tunnel that ends here
    UNPACKED = 1  # expected
    MALFORMED = 2  # hostile or broken: passed, and the kernel has no use for it
    FOREIGN = 3  # the inner packet is to no VIP of ours: passed, as before
    CONGESTED = 4  # dropped: it met congestion, and its sender understands no other sign
    BROKEN = 5  # bug: dropped because a helper failed that cannot fail


@attrs.frozen
class End:
    """One end of tunnels: an address, and the UDP port of GUE or 0 for IP in IP."""

    address: IPAddress
    port: int = 0


class DecapProgram:
    """The loaded program: `pin` is what to attach. The opener calls `close`."""

    def __init__(self, pin_dir: Path, cache: Path | None = None) -> None:
        """Load what is pinned below `pin_dir`, on a bpffs that is mounted there if need be.

        Compiles it first where that was not done yet; what was compiled is kept in `cache`.
        Raises BpfError, EnvironmentProblem.
        """
        folder = ensure_bpffs(pin_dir)
        artefacts = Artefacts(cache) if cache else None
        compiled = compile_units([decap_unit(folder)], folder, artefacts=artefacts)
        self.pin = compiled.programs[FUNCTION].pin
        self._compiled = compiled
        self._folder = folder
        self._maps = open_maps(compiled.maps)

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

    def forget_older(self) -> None:
        """Remove pins of older programs, once no interface runs them."""
        forget_old(self._folder, self._compiled, maps=True)

    def close(self) -> None:
        """Close the maps; what is attached goes on."""
        close_maps(self._maps)

    @staticmethod
    def remove(pin_dir: Path) -> None:
        """Remove everything pinned; programs that are attached live on until detached."""
        folder = ensure_bpffs(pin_dir)
        for pin in folder.iterdir():
            pin.unlink()
        remove_bpffs(pin_dir)


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
