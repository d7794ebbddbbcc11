# SPDX-License-Identifier: Apache-2.0
"""What is installed, for people and programs: name, kind, version, package, options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from galelb.config.option_schema import OptionInfo, describe_model
from galelb.errors import PluginError
from galelb.plugins.loading import Candidate
from galelb.plugins.registry import Registered, Registry

__all__ = ["PluginInfo", "describe"]


@attrs.frozen(kw_only=True)
class PluginInfo:
    """One plugin: something registered under a name, or hooks alone (kind "hooks")."""

    name: str
    kinds: tuple[str, ...]
    version: str
    package: str
    description: str = ""
    options: tuple[OptionInfo, ...] = ()
    error: str | None = None
    """Why it cannot be used."""


def describe(
    candidates: Iterable[Candidate], registry: Registry, broken: Mapping[str, PluginError]
) -> list[PluginInfo]:
    """Return one entry for each registered class and each plugin without any, by name."""
    infos = {entry.name: _of_class(entry) for entry in registry}
    registering = {entry.candidate.name for entry in registry}
    for candidate in candidates:
        if candidate.name not in registering and candidate.name not in infos:
            infos[candidate.name] = _of_candidate(candidate)
    for name, error in broken.items():
        empty = PluginInfo(name=name, kinds=(), version="", package="")
        infos[name] = attrs.evolve(infos.get(name, empty), error=str(error))
    return [infos[name] for name in sorted(infos)]


def _of_class(entry: Registered) -> PluginInfo:
    text = (entry.cls.__doc__ or "").strip()
    return PluginInfo(
        name=entry.name,
        kinds=(entry.kind,),
        version=entry.candidate.version,
        package=entry.candidate.package,
        description=text.partition("\n")[0],
        options=describe_model(entry.options),
    )


def _of_candidate(candidate: Candidate) -> PluginInfo:
    return PluginInfo(
        name=candidate.name,
        kinds=("hooks",),
        version=candidate.version,
        package=candidate.package,
    )
