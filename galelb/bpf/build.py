# SPDX-License-Identifier: Apache-2.0
"""Compiles and loads units in several shares at the same time, one per processor."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs

from galelb.bpf import loader, shares
from galelb.bpf.artefacts import Artefacts
from galelb.bpf.compose import Composition
from galelb.bpf.diagnostics import tail
from galelb.bpf.helper import Helper
from galelb.bpf.layout import MapLayout
from galelb.bpf.syscalls import LoadError
from galelb.errors import VerifierError

__all__ = ["Order", "build"]

_MOST_SHARES = 2
"""Each share parses the whole text again and its compiler takes 100 MB: more pay off little."""


@attrs.frozen(kw_only=True)
class Order:
    """A text, the functions to load from it with their kinds, and where to pin them."""

    composition: Composition
    functions: Mapping[str, str]
    frags: bool
    key: str
    """What the compiled programs are kept under."""
    pins: Mapping[str, Path]


@attrs.frozen
class _Share:
    """Some functions of an order. `known`: what the order was compiled to earlier, if so."""

    order: Order
    functions: Mapping[str, str]
    known: Mapping[str, Any] | None

    @property
    def text(self) -> str:
        order = self.order
        return shares.only(order.composition.text, self.functions, set(order.functions.values()))


def build(
    orders: Sequence[Order], helper: Helper, artefacts: Artefacts | None
) -> list[dict[str, Any]]:
    """Load and pin; return per order `{"maps": {NAME: {...}}, "programs": {NAME: {...}}}`.

    No program is pinned after a failure: CompileError, VerifierError, MapError,
    EnvironmentProblem.
    """
    known = [artefacts.read(order.key) if artefacts else None for order in orders]
    parts = [
        _Share(order, functions, compiled)
        for order, compiled in zip(orders, known, strict=True)
        for functions in shares.split(order.composition.active, order.functions, _most())
    ]
    with loader.Loader() as loading:
        with ThreadPoolExecutor(_most(), "galelb-build") as threads:
            jobs = [threads.submit(_make, share, helper, loading) for share in parts]
        done = [job.result() for job in jobs]
        answers = [
            _gathered([made for made, share in zip(done, parts, strict=True) if share.order is o])
            for o in orders
        ]
        for order, compiled, answer in zip(orders, known, answers, strict=True):
            if artefacts and answer["compiled"] != compiled:
                artefacts.write(order.key, answer["compiled"])
        return [_pinned(order, answer) for order, answer in zip(orders, answers, strict=True)]


def _most() -> int:
    return min(_MOST_SHARES, len(os.sched_getaffinity(0)))


@attrs.frozen
class _Made:
    """The loaded functions of a share, by fd, and what they were loaded from."""

    compiled: Mapping[str, Any]
    fds: Mapping[str, int]


def _make(share: _Share, helper: Helper, loading: loader.Loader) -> _Made:
    if share.known is not None:
        try:
            return _load(share, share.known, loading)
        except (LoadError, ValueError, KeyError, TypeError, AttributeError):
            pass  # whatever it is, a compiler knows better
    compiled = helper.compile(share.text, share.functions)
    try:
        return _load(share, compiled, loading)
    except LoadError as error:
        helper.explain(share.text, share.functions, frags=share.order.frags)
        message = f"the verifier refused a program: {error.strerror}"
        raise VerifierError(message, tail(error.log)) from None


def _load(share: _Share, compiled: Mapping[str, Any], loading: loader.Loader) -> _Made:
    composition = share.order.composition
    maps = {}
    for name, fields in compiled["maps"].items():
        layout = MapLayout(
            name=name,
            pin=composition.maps[name],
            max_entries=composition.entries[name],
            **fields,
        )
        maps[name] = loading.map_fd(layout)
    fds = {
        name: loading.load(name, kind, compiled["programs"][name], maps, share.order.frags)
        for name, kind in share.functions.items()
    }
    return _Made({**compiled, "programs": {n: compiled["programs"][n] for n in fds}}, fds)


def _gathered(made: Sequence[_Made]) -> dict[str, Any]:
    """Join the shares of an order."""
    first = made[0].compiled
    programs = {name: code for one in made for name, code in one.compiled["programs"].items()}
    fds = {name: fd for one in made for name, fd in one.fds.items()}
    return {"compiled": {**first, "programs": programs}, "fds": fds}


def _pinned(order: Order, answer: Mapping[str, Any]) -> dict[str, Any]:
    entries = order.composition.entries
    maps = answer["compiled"]["maps"]
    return {
        "maps": {name: {**fields, "max_entries": entries[name]} for name, fields in maps.items()},
        "programs": {
            name: loader.pin(answer["fds"][name], order.pins[name]) for name in order.pins
        },
    }
