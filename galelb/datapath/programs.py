# SPDX-License-Identifier: Apache-2.0
"""The loaded programs and open maps of a balancer: one generation after the other."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from galelb.bpf import ringbuf
from galelb.bpf.artefacts import Artefacts
from galelb.bpf.compile import Compiled, Unit, compile_units, forget_old
from galelb.bpf.compose import compose
from galelb.bpf.maps import PinnedMap, close_maps, open_maps
from galelb.bpf.pipeline import Context, Limits, Pipeline, pipeline
from galelb.bpf.syscalls import obj_get
from galelb.bpf.testrun import run_xdp
from galelb.datapath.attacher import Entries
from galelb.errors import BpfError
from galelb.forwarder import BpfMap, Forwarder, HostView
from galelb.model import Service

__all__ = ["Generation", "KernelDataPath", "LoadRequest"]

_CAPTURE: dict[str, int | str] = {"GALE_CAPTURE": 1}


@attrs.frozen(kw_only=True)
class LoadRequest:
    """What the programs are composed for."""

    services: Mapping[int, Service]
    forwarders: Mapping[str, Forwarder]
    host: HostView
    limits: Limits
    table_seed: int
    tc: bool
    """Compile for TC too."""
    frags: bool
    """Declare that packets of several pages are fine; needed for native XDP at a large MTU."""
    trace: bool = False
    """Note the steps of each packet in the map gale_trace; not for interfaces."""
    capture: bool = False
    """Copy packets to the map gale_capture, as long as gale_capture_wish says which."""


@attrs.frozen(kw_only=True)
class Generation:
    """One set of programs and the maps that they use."""

    request: LoadRequest
    compiled: Compiled
    maps: Mapping[str, PinnedMap]
    entries: Entries
    slow_programs: Mapping[int, str]
    """Names of the programs of slow work, by their index in XDP's program array."""

    def pin_name(self, map_name: str) -> str:
        """Return the name of a map's pin; another name is another map."""
        return self.compiled.maps[map_name].pin.name


class KernelDataPath:
    """Implements `galelb.forwarder.DataPath`; `load` blocks, use a worker thread.

    A new generation shares the maps of the old one as far as their shapes are the same.
    """

    def __init__(self, pin_dir: Path, cache: Path | None, compiled: Path | None = None) -> None:
        """`cache` goes with the pins; what lies in `compiled` is good for any instance."""
        self._pin_dir = pin_dir
        self._cache = cache
        self._artefacts = Artefacts(compiled) if compiled else None
        self._generation: Generation | None = None
        self._former: Generation | None = None
        self._programs: dict[str, int] = {}
        self._ring: ringbuf.RingBuffer | None = None

    @property
    def pin_dir(self) -> Path:
        """The folder of all pins."""
        return self._pin_dir

    @property
    def generation(self) -> Generation:
        """The generation in use. Raises BpfError before the first one."""
        if self._generation is None:
            raise BpfError("no program is loaded yet")
        return self._generation

    @property
    def loaded(self) -> bool:
        """Whether a generation is in use."""
        return self._generation is not None

    @property
    def maps(self) -> Mapping[str, BpfMap]:
        """All maps by name."""
        return self.generation.maps

    def load(self, request: LoadRequest) -> Generation:
        """Compile, load and pin, and open the maps; nothing is attached or switched yet.

        Raises CompileError, VerifierError, EnvironmentProblem, MapError.
        """
        contexts: tuple[Context, ...] = ("xdp", "tc") if request.tc else ("xdp",)
        pipelines = [_pipeline(request, context) for context in contexts]
        units = [self._unit(one, request) for one in pipelines]
        compiled = compile_units(units, self._pin_dir, cache=self._cache, artefacts=self._artefacts)
        for one in pipelines:
            self._link_tail_calls(one, compiled)
        return Generation(
            request=request,
            compiled=compiled,
            maps=open_maps(compiled.maps),
            entries=_entries(compiled, request),
            slow_programs={n: _short(name) for n, name in pipelines[0].tail_calls.items()},
        )

    def entry_pin(self, request: LoadRequest) -> Path:
        """Return where `load` pins the XDP entry program, whose name holds a digest of it all."""
        unit = self._unit(_pipeline(request, "xdp"), request)
        return unit.pins(self._pin_dir)["gale_xdp_entry"]

    def use(self, generation: Generation) -> None:
        """Switch to a loaded generation: `maps`, `run_program` and `events` speak of it.

        The maps of the former one stay open until the next switch, for readers in threads.
        """
        self._close_programs()
        if self._former is not None:
            close_maps(self._former.maps)
        self._former, self._generation = self._generation, generation
        self._ring = ringbuf.RingBuffer(generation.compiled.maps["gale_events"])

    def forget_older(self, beside: Generation | None = None) -> None:
        """Remove the pins of older generations, once no interface runs them; keep `beside`."""
        kept = [one.compiled for one in (self.generation, beside) if one is not None]
        maps = {layout.pin.name: layout for one in kept for layout in one.maps.values()}
        programs = {layout.pin.name: layout for one in kept for layout in one.programs.values()}
        forget_old(self._pin_dir, Compiled(maps, programs), maps=True)

    def forget_all(self) -> int:
        """Remove all pins of an earlier run; returns how many. What is attached forwards on."""
        if not self._pin_dir.is_dir():
            return 0
        return len(forget_old(self._pin_dir, Compiled({}, {}), maps=True))

    def run_program(
        self, function: str, data: bytes = b"\0" * 64, *, repeat: int = 1
    ) -> tuple[int, bytes]:
        """Run a helper program of a forwarder; blocks. Raises BpfError."""
        if function not in self._programs:
            self._programs[function] = obj_get(self.generation.compiled.programs[function].pin)
        result = run_xdp(self._programs[function], data, repeat=repeat)
        return result.verdict, result.data

    def events(self) -> AsyncIterator[Any]:
        """Iterate over what programs tell, for ever, as `struct gale_event` values."""
        if self._ring is None:
            raise BpfError("no program is loaded yet")
        return ringbuf.events(self._ring)

    def close(self) -> None:
        """Close everything; programs and maps stay pinned and attached."""
        self._close_programs()
        for generation in (self._former, self._generation):
            if generation is not None:
                close_maps(generation.maps)
        self._former = self._generation = None

    def _close_programs(self) -> None:
        for fd in self._programs.values():
            os.close(fd)
        self._programs.clear()
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    def _unit(self, one: Pipeline, request: LoadRequest) -> Unit:
        # A program array holds programs of one kind: with fragment support or without.
        salt = "frags" if request.frags else ""
        composition = compose(one.parts, one.defines, self._pin_dir, salt, one.layouts)
        return Unit(composition, one.functions, frags=request.frags)

    def _link_tail_calls(self, one: Pipeline, compiled: Compiled) -> None:
        """Fill the program array: which slow program is at which index."""
        slow = PinnedMap(compiled.maps[one.tail_array])
        try:
            for index, function in one.tail_calls.items():
                fd = obj_get(compiled.programs[function].pin)
                try:
                    slow.set(index, fd)
                finally:
                    os.close(fd)
        finally:
            slow.close()


def _short(program: str) -> str:
    return program.removeprefix("gale_xdp_")


def _pipeline(request: LoadRequest, context: Context) -> Pipeline:
    made = pipeline(
        services=request.services,
        forwarders=list(request.forwarders.values()),
        host=request.host,
        limits=request.limits,
        table_seed=request.table_seed,
        context=context,
        trace=request.trace,
    )
    return attrs.evolve(made, defines=made.defines | _CAPTURE) if request.capture else made


def _entries(compiled: Compiled, request: LoadRequest) -> Entries:
    tc = compiled.programs["gale_tc_entry"].pin if request.tc else None
    egress = any(forwarder.needs_tc_egress for forwarder in request.forwarders.values())
    return Entries(
        xdp=compiled.programs["gale_xdp_entry"].pin,
        tc=tc,
        egress=compiled.programs["gale_tc_egress"].pin if tc and egress else None,
        tc_possible=all(forwarder.supports_tc for forwarder in request.forwarders.values()),
    )
