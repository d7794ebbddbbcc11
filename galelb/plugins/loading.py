# SPDX-License-Identifier: Apache-2.0
"""Finds installed plugins by their entry points and imports them, one failure at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points

import attrs

from galelb.errors import PluginError
from galelb.suggest import nearest

__all__ = ["GROUP", "Candidate", "find_candidates", "has_foreign_plugins", "valid_name"]

GROUP = "galelb.plugins"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@attrs.frozen(kw_only=True)
class Candidate:
    """An installed plugin: the object that holds its hooks, or why that cannot be had."""

    name: str
    package: str
    version: str
    plugin: object | None = None
    error: PluginError | None = None

    @property
    def origin(self) -> str:
        """The package for people, for example "package galelb 0.1.0"."""
        return f"package {self.package} {self.version}".rstrip()

    def failure(self, message: str) -> PluginError:
        """Return an error that names the plugin and its package."""
        return PluginError(self.name, f"{message} ({self.origin})")


def find_candidates(environ: Mapping[str, str]) -> list[Candidate]:
    """Return the installed plugins, imported; failures are kept in the candidates.

    `GALELB_LOAD_PLUGINS` (names, comma-separated) limits them to those named, and then a
    failure is raised, since who names a plugin wants it. `GALELB_DISABLE_PLUGINS` leaves
    plugins out without importing them. Raises PluginError.
    """
    found = sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value))
    wanted = _names(environ, "GALELB_LOAD_PLUGINS")
    disabled = _names(environ, "GALELB_DISABLE_PLUGINS") or []
    if wanted is not None:
        _all_installed(wanted, found)
        found = [entry for entry in found if entry.name in wanted]
    loaded = [_load(entry) for entry in found if entry.name not in disabled]
    failed = next((one.error for one in loaded if one.error and wanted is not None), None)
    if failed:
        raise failed
    return loaded


def has_foreign_plugins() -> bool:
    """Return whether any plugin is installed that does not come with galelb itself."""
    return any(_package(entry)[0] != "galelb" for entry in entry_points(group=GROUP))


def valid_name(name: object) -> bool:
    """Return whether this can be the name of a plugin."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _names(environ: Mapping[str, str], variable: str) -> list[str] | None:
    text = environ.get(variable)
    if text is None:
        return None
    return [name.strip() for name in text.split(",") if name.strip()]


def _all_installed(wanted: Sequence[str], found: Sequence[EntryPoint]) -> None:
    known = {entry.name for entry in found}
    for name in wanted:
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            message = f"named in GALELB_LOAD_PLUGINS but not installed{nearest(name, known)}"
            raise PluginError(name, f"{message}; installed: {names}")


def _package(entry: EntryPoint) -> tuple[str, str]:
    if entry.dist is None:
        return entry.value.partition(":")[0], ""
    return entry.dist.name, entry.dist.version


def _load(entry: EntryPoint) -> Candidate:
    package, version = _package(entry)
    candidate = Candidate(name=entry.name, package=package, version=version)
    if not valid_name(entry.name):
        failure = candidate.failure("bad name: use a-z, 0-9 and _, a letter first")
        return attrs.evolve(candidate, error=failure)
    try:
        return attrs.evolve(candidate, plugin=entry.load())
    except (Exception, SystemExit) as error:
        # Importing runs foreign code: whatever it raises is that plugin's failure, not ours.
        failure = candidate.failure(f"cannot be imported: {type(error).__name__}: {error}")
        failure.__cause__ = error
        return attrs.evolve(candidate, error=failure)
