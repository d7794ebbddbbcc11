# SPDX-License-Identifier: Apache-2.0
"""Compiles and loads units in several shares at the same time, one per processor."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
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

    def only(self, function: str) -> _Share:
        """Return a share of one function, of which nothing is known."""
        return _Share(self.order, {function: self.functions[function]}, None)


@attrs.frozen
class _Loaded:
    """A loaded function and what it was loaded from."""

    compiled: Mapping[str, Any]
    program: Mapping[str, Any]
    fd: int


def build(
    orders: Sequence[Order], helper: Helper, artefacts: Artefacts | None
) -> list[dict[str, Any]]:
    """Load and pin; return per order `{"maps": {NAME: {...}}, "programs": {NAME: {...}}}`.

    No program is pinned after a failure: CompileError, VerifierError, MapError,
    EnvironmentProblem.
    """
    known = [artefacts.read(order.key) if artefacts else None for order in orders]
    parts = [
        _Share(order, functions, content)
        for order, content in zip(orders, known, strict=True)
        for functions in shares.split(order.composition.active, order.functions, _most())
    ]
    with loader.Loader() as loading:
        loaded = _load_all(parts, helper, loading)
        for order, content in zip(orders, known, strict=True):
            fresh = _content(order, loaded)
            if artefacts and fresh != content:
                artefacts.write(order.key, fresh)
        return [_pinned(order, loaded) for order in orders]


def _most() -> int:
    return min(_MOST_SHARES, len(os.sched_getaffinity(0)))


def _load_all(
    parts: Sequence[_Share], helper: Helper, loading: loader.Loader
) -> dict[str, _Loaded]:
    """Compile the shares; as soon as one is ready its functions are loaded by whoever is free."""
    with ThreadPoolExecutor(_most(), "galelb-build") as threads:
        texts = {threads.submit(_compiled, share, helper): share for share in parts}
        loads = {
            name: threads.submit(_load_or_explain, share, name, job.result(), helper, loading)
            for job in as_completed(texts)
            for share in [texts[job]]
            for name in share.functions
        }
    return {name: job.result() for name, job in loads.items()}


def _compiled(share: _Share, helper: Helper) -> Mapping[str, Any]:
    return share.known or helper.compile(share.text, share.functions)


def _load_or_explain(
    share: _Share, name: str, compiled: Mapping[str, Any], helper: Helper, loading: loader.Loader
) -> _Loaded:
    """Load; what was kept and cannot be loaded is compiled again."""
    try:
        return _load(share, name, compiled, loading)
    except LoadError as error:
        refusal = error
    except (ValueError, KeyError, TypeError, AttributeError):
        if share.known is None:
            raise
    one = share.only(name)
    if share.known is not None:
        return _load_or_explain(one, name, _compiled(one, helper), helper, loading)
    helper.explain(one.text, one.functions, frags=share.order.frags)
    message = f"the verifier refused {name}: {refusal.strerror}"
    raise VerifierError(message, tail(refusal.log))


def _load(share: _Share, name: str, compiled: Mapping[str, Any], loading: loader.Loader) -> _Loaded:
    composition = share.order.composition
    fds = {}
    for map_name, fields in compiled["maps"].items():
        layout = MapLayout(
            name=map_name,
            pin=composition.maps[map_name],
            max_entries=composition.entries[map_name],
            **fields,
        )
        fds[map_name] = loading.map_fd(layout)
    program = compiled["programs"][name]
    fd = loading.load(name, share.functions[name], program, fds, share.order.frags)
    return _Loaded(compiled, program, fd)


def _content(order: Order, loaded: Mapping[str, _Loaded]) -> dict[str, Any]:
    """Return what to keep: as one compiler would have answered for the whole order."""
    first = next(loaded[name].compiled for name in order.functions)
    return {**first, "programs": {name: loaded[name].program for name in order.functions}}


def _pinned(order: Order, loaded: Mapping[str, _Loaded]) -> dict[str, Any]:
    entries = order.composition.entries
    maps = next(loaded[name].compiled["maps"] for name in order.functions)
    return {
        "maps": {name: {**fields, "max_entries": entries[name]} for name, fields in maps.items()},
        "programs": {name: loader.pin(loaded[name].fd, pin) for name, pin in order.pins.items()},
    }
