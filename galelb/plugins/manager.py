# SPDX-License-Identifier: Apache-2.0
"""Finds, validates and calls plugins; beside galelb.hooks the only user of pluggy."""

from __future__ import annotations

import importlib.metadata
import inspect
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pluggy
import structlog

from galelb import hooks
from galelb.errors import PluginError
from galelb.plugins.blame import blamed
from galelb.plugins.caller import HookCaller, Implementation
from galelb.plugins.defaults import CoreDefaults
from galelb.plugins.infos import PluginInfo, describe
from galelb.plugins.loading import Candidate, find_candidates
from galelb.plugins.methods import HookMethods
from galelb.plugins.registry import KINDS, Registered, Registry, check_class
from galelb.plugins.verify import verify

if TYPE_CHECKING:
    import click

    from galelb.announcer import Announcer
    from galelb.config import BalancerConfig
    from galelb.forwarder import Forwarder, Options
    from galelb.sources import BackgroundService, HealthSource, Scheduler
    from galelb.transport import SyncTransport

__all__ = ["PluginInfo", "Plugins"]

log = structlog.get_logger("galelb.plugins")


class Plugins(HookMethods):
    """All plugins of one balancer: what they registered, and one typed method per hook.

    A plugin that cannot be used is kept in `broken`, and an error for whoever asks for it by
    name. Nothing here is global: two balancers in one process have two of these.
    """

    def __init__(self, candidates: Iterable[Candidate] = (), *, trace: bool = False) -> None:
        self._manager = _manager()
        self._registry = Registry()
        self._candidates: dict[str, Candidate] = {}
        self._broken: dict[str, PluginError] = {}
        self._commands: list[tuple[Candidate, click.Command]] = []
        self._core = CoreDefaults()
        super().__init__(HookCaller(self._implementations, trace=trace))
        version = _version()
        core = Candidate(name="core", package="galelb", version=version, plugin=self._core)
        for candidate in (core, *candidates):
            self._add(candidate)

    @classmethod
    def discover(
        cls,
        load_entry_points: bool = True,
        extra: Iterable[object] = (),
        environ: Mapping[str, str] | None = None,
    ) -> Plugins:
        """Return the installed plugins and `extra` ones (modules or objects with hooks).

        The environment may limit and trace them: GALELB_LOAD_PLUGINS, GALELB_DISABLE_PLUGINS,
        GALELB_TRACE_HOOKS=1. Raises PluginError for a faulty plugin that was named in
        GALELB_LOAD_PLUGINS or given as `extra`.
        """
        environ = os.environ if environ is None else environ
        found = find_candidates(environ) if load_entry_points else []
        given = [_given(plugin) for plugin in extra]
        plugins = cls([*found, *given], trace=environ.get("GALELB_TRACE_HOOKS") == "1")
        named = [c.name for c in found] if "GALELB_LOAD_PLUGINS" in environ else []
        for name in (*named, *(candidate.name for candidate in given)):
            plugins.require(name)
        return plugins

    # which plugins there are

    @property
    def broken(self) -> Mapping[str, PluginError]:
        """Plugins that cannot be used, and names that several plugins claim."""
        return {**self._broken, **self._registry.conflicts}

    def require(self, name: str) -> None:
        """Raise PluginError if the plugin of this name is broken."""
        if name in self.broken:
            raise self.broken[name]

    def warn_broken(self, used: Iterable[str] = ()) -> None:
        """Log a warning for each broken plugin that is not among those in use."""
        for name in sorted(set(self.broken) - set(used)):
            log.warning("plugin_skipped", plugin=name, reason=str(self.broken[name]))

    def infos(self) -> list[PluginInfo]:
        """Return what is installed, sorted by name, broken plugins included."""
        return describe(self._candidates.values(), self._registry, self.broken)

    def versions(self) -> dict[str, str]:
        """Return the version of every usable plugin, as `galelb_started` passes them on."""
        return {info.name: info.version for info in self.infos() if info.error is None}

    def watch(self, watcher: object, name: str) -> None:
        """Call the hooks of `watcher`, an object of the core's own that is no plugin."""
        self._manager.register(watcher, name)

    # register

    @property
    def registered(self) -> Registry:
        """Everything registered, for code that treats all kinds alike."""
        return self._registry

    def find(self, kind: str, name: str) -> type[Any]:
        """Return a registered class. Raises PluginError that names what is installed."""
        self.require(name)
        return self._registry.find(kind, name)

    def forwarder(self, name: str) -> type[Forwarder]:
        """Return a forwarding strategy. Raises PluginError."""
        return self.find("forwarder", name)

    def scheduler(self, name: str) -> type[Scheduler]:
        """Return a builder of lookup tables. Raises PluginError."""
        return self.find("scheduler", name)

    def health_source(self, name: str) -> type[HealthSource]:
        """Return a source of health reports. Raises PluginError."""
        return self.find("health source", name)

    def sync_transport(self, name: str) -> type[SyncTransport]:
        """Return a transport between balancers. Raises PluginError."""
        return self.find("sync transport", name)

    def announcer(self, name: str) -> type[Announcer]:
        """Return an announcer of VIPs. Raises PluginError."""
        return self.find("announcer", name)

    def services(self) -> dict[str, type[BackgroundService]]:
        """Return the background services to run, by name."""
        return self._registry.classes("service")

    def commands(self) -> list[click.Command]:
        """Return the commands that plugins add to the command line."""
        return [command for _, command in self._commands]

    def options(self, name: str) -> type[Options]:
        """Return the model of `[plugins.<name>]`. Raises PluginError for unknown names."""
        self.require(name)
        entry = self._registry.get(name)
        if entry is None:
            raise PluginError(name, "has no options: it registers nothing under this name")
        return entry.options

    def started(self, plugins: Mapping[str, str] | None = None) -> None:
        """Tell plugins that the balancer forwards, and which versions of plugins it uses."""
        super().started(self.versions() if plugins is None else plugins)

    def configure(self, config: BalancerConfig) -> None:
        """Use the schedulers of this configuration. Raises PluginError, and nothing changed.

        Those of the configuration before stay until a plan has gone over to this one.
        """
        new = {name: self._new_scheduler(name, config) for name in config.schedulers}
        self._core.schedulers = {**self._core.schedulers, **new}

    def _new_scheduler(self, name: str, config: BalancerConfig) -> Scheduler:
        cls = self.scheduler(name)
        with blamed(name, "scheduler"):
            return cls(config.plugins.get(name) or cls.Options())

    # private

    def _implementations(self, hook: str) -> list[Implementation]:
        """Implementations in call order: tryfirst, last registered first, trylast."""
        caller: pluggy.HookCaller = getattr(self._manager.hook, hook)
        return [
            Implementation(one.plugin_name, one.function, tuple(one.argnames))
            for one in reversed(caller.get_hookimpls())
        ]

    def _add(self, candidate: Candidate) -> None:
        try:
            self._register(candidate)
        except PluginError as error:
            self._broken[candidate.name] = error
        self._candidates.setdefault(candidate.name, candidate)

    def _register(self, candidate: Candidate) -> None:
        if candidate.error is not None:
            raise candidate.error
        if candidate.name in self._candidates:
            other = self._candidates[candidate.name]
            raise candidate.failure(f"has the name of a plugin of {other.origin}")
        verify(candidate)
        self._manager.register(candidate.plugin, candidate.name)
        try:
            entries = self._collect_classes(candidate)
            commands = [(candidate, command) for command in self._collect_commands(candidate)]
        except PluginError:
            self._manager.unregister(name=candidate.name)
            raise
        self._registry.add(entries)
        self._commands.extend(commands)

    def _returned(self, candidate: Candidate, hook: str) -> list[Any]:
        """Return what one plugin returns from a register hook."""
        for one in self._implementations(hook):
            if one.plugin == candidate.name:
                try:
                    return list(one.function())
                except (Exception, SystemExit) as error:
                    text = f"{hook} failed: {type(error).__name__}: {error}"
                    raise candidate.failure(text) from error
        return []

    def _collect_classes(self, candidate: Candidate) -> list[Registered]:
        entries: dict[str, Registered] = {}
        for kind in KINDS:
            for cls in self._returned(candidate, kind.hook):
                entry = check_class(candidate, kind, cls)
                if entry.name in entries:
                    raise candidate.failure(f"registers the name {entry.name} twice")
                entries[entry.name] = entry
        return list(entries.values())

    def _collect_commands(self, candidate: Candidate) -> list[click.Command]:
        commands = self._returned(candidate, "galelb_register_commands")
        if commands:
            import click  # only here: most balancers have no plugin with commands

            for command in commands:
                if not (isinstance(command, click.Command) and command.name):
                    text = "galelb_register_commands must return named click commands"
                    raise candidate.failure(f"{text}, got {command!r}")
        return commands


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(hooks.PROJECT)
    manager.add_hookspecs(hooks.HookSpecs)
    return manager


def _given(plugin: object) -> Candidate:
    """Return a plugin that was handed over as an object, named like its module or class."""
    named = plugin if inspect.ismodule(plugin) or inspect.isclass(plugin) else type(plugin)
    name = getattr(plugin, "name", None) or named.__name__.rpartition(".")[2]
    package = str(getattr(plugin, "__module__", None) or named.__name__)
    return Candidate(name=str(name), package=package, version="", plugin=plugin)


def _version() -> str:
    try:
        return importlib.metadata.version("galelb")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
