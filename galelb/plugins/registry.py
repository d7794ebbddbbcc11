# SPDX-License-Identifier: Apache-2.0
"""What plugins registered: classes by kind and name, each checked before it is believed."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs

from galelb.announcer import Announcer
from galelb.errors import PluginError
from galelb.forwarder import Forwarder, Options
from galelb.plugins.loading import Candidate, valid_name
from galelb.sources import BackgroundService, HealthSource, Scheduler
from galelb.suggest import nearest
from galelb.transport import SyncTransport

__all__ = ["KINDS", "Kind", "Registered", "Registry"]

T = TypeVar("T")


@attrs.frozen
class Kind:
    """A kind of class that plugins register: its words, its hook and its base class."""

    name: str
    hook: str
    base: type[Any]


KINDS = (
    Kind("forwarder", "galelb_register_forwarders", Forwarder),
    Kind("scheduler", "galelb_register_schedulers", Scheduler),
    Kind("health source", "galelb_register_health_sources", HealthSource),
    Kind("sync transport", "galelb_register_sync_transports", SyncTransport),
    Kind("announcer", "galelb_register_announcers", Announcer),
    Kind("service", "galelb_register_services", BackgroundService),
)


@attrs.frozen
class Registered:
    """A class that a plugin registered."""

    kind: str
    name: str
    cls: type[Any]
    candidate: Candidate

    @property
    def options(self) -> type[Options]:
        """The model of its `[plugins.<name>]` section."""
        options: type[Options] = self.cls.Options
        return options


class Registry:
    """Registered classes by name; a name is used once, whatever the kind."""

    def __init__(self) -> None:
        self._by_name: dict[str, Registered] = {}
        self._conflicts: dict[str, PluginError] = {}

    def add(self, entries: Iterable[Registered]) -> None:
        """Add what one plugin registers; names that others use become unusable for all."""
        for entry in entries:
            other = self._by_name.get(entry.name)
            if other is None:
                self._by_name[entry.name] = entry
            else:
                self._conflicts[entry.name] = _conflict(other, entry)

    @property
    def conflicts(self) -> Mapping[str, PluginError]:
        """Names that more than one plugin uses."""
        return self._conflicts

    def __iter__(self) -> Iterator[Registered]:
        """Iterate over what is usable, sorted by name."""
        return iter(self._by_name[n] for n in sorted(self._by_name) if n not in self._conflicts)

    def get(self, name: str) -> Registered | None:
        """Return what has this name. Raises PluginError when several plugins use it."""
        if name in self._conflicts:
            raise self._conflicts[name]
        return self._by_name.get(name)

    def classes(self, kind: str) -> dict[str, type[Any]]:
        """Return the usable classes of a kind by name."""
        return {entry.name: entry.cls for entry in self if entry.kind == kind}

    def find(self, kind: str, name: str) -> type[Any]:
        """Return a class. Raises PluginError saying what is installed."""
        entry = self.get(name)
        if entry is not None and entry.kind == kind:
            return entry.cls
        known = self.classes(kind)
        installed = ", ".join(known) or "none"
        if entry is not None:
            raise PluginError(name, f"is a {entry.kind}, not a {kind}; installed: {installed}")
        raise PluginError(name, f"no such {kind}{nearest(name, known)}; installed: {installed}")


def check_class(candidate: Candidate, kind: Kind, cls: object) -> Registered:
    """Return the entry of a class that a plugin returned. Raises PluginError."""
    if not (isinstance(cls, type) and issubclass(cls, kind.base)):
        wanted = f"{kind.base.__module__}.{kind.base.__name__}"
        raise candidate.failure(f"{kind.hook} must return subclasses of {wanted}, got {cls!r}")
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not valid_name(name):
        text = 'needs a class attribute `name` such as "my_plugin" (a-z, 0-9 and _)'
        raise candidate.failure(f"{kind.name} {cls.__name__} {text}, got {name!r}")
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if inspect.isabstract(cls):
        raise candidate.failure(f"{kind.name} {name} does not define {', '.join(missing)}")
    if kind.base is Forwarder and not isinstance(getattr(cls, "source", None), Path):
        raise candidate.failure(f"{kind.name} {name} needs a class attribute `source`: its C file")
    options = getattr(cls, "Options", None)
    if not (isinstance(options, type) and issubclass(options, Options)):
        raise candidate.failure(f"Options of {name} must be a subclass of galelb.forwarder.Options")
    return Registered(kind.name, name, cls, candidate)


def _conflict(one: Registered, other: Registered) -> PluginError:
    def describe(entry: Registered) -> str:
        return f"plugin {entry.candidate.name} as {entry.kind} ({entry.candidate.origin})"

    return PluginError(
        one.name,
        f"registered twice: by {describe(one)} and by {describe(other)}; uninstall one or name "
        "it in GALELB_DISABLE_PLUGINS",
    )
