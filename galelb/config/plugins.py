# SPDX-License-Identifier: Apache-2.0
"""The plugins that a configuration selects, and the validation of their own sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from galelb.config.draft import Draft, parse_partly
from galelb.config.models import AnnounceSection, NodeHealthSection
from galelb.config.toml_lines import KeyPath
from galelb.errors import PluginError
from galelb.forwarder import Forwarder, Options
from galelb.suggest import nearest

if TYPE_CHECKING:
    from galelb.plugins import Plugins

__all__ = [
    "apply_selection",
    "check_forwarders",
    "check_transport",
    "parse_options",
    "selected",
]

_KEYS: Mapping[str, tuple[str, str]] = {
    "forwarder": ("forwarding", "plugin"),
    "scheduler": ("forwarding", "scheduler"),
    "health source": ("node_health", "sources"),
    "sync transport": ("load_balancer_quorum", "transport"),
    "announcer": ("announce", "plugin"),
}


def apply_selection(data: dict[str, Any], select: Sequence[str], plugins: Plugins) -> None:
    """Let each `--plugin NAME` override the file's selection of its kind, in place.

    Several health sources add up; of the other kinds the last one named wins. Raises
    PluginError for a name that is not installed or broken.
    """
    sources: list[str] = []
    for name in select:
        kind = _kind(name, plugins)
        if kind == "health source":
            sources.append(name)
            _set(data, kind, list(dict.fromkeys(sources)))
        elif kind in _KEYS:
            _set(data, kind, name)


def _kind(name: str, plugins: Plugins) -> str:
    plugins.require(name)
    entry = plugins.registered.get(name)
    if entry is None:
        known = [entry.name for entry in plugins.registered]
        installed = ", ".join(known) or "none"
        raise PluginError(name, f"no such plugin{nearest(name, known)}; installed: {installed}")
    return entry.kind


def _set(data: dict[str, Any], kind: str, value: Any) -> None:
    section, key = _KEYS[kind]
    table = data.setdefault(section, {})
    if isinstance(table, dict):
        table[key] = value


def selected(draft: Draft) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield (key path, kind, plugin name) of every plugin that the file selects."""
    forwarding = draft.forwarding
    yield ("forwarding", "plugin"), "forwarder", forwarding.plugin
    yield ("forwarding", "scheduler"), "scheduler", forwarding.scheduler
    for index, service in draft.services.items():
        if service.forwarder is not None:
            yield ("services", index, "forwarder"), "forwarder", service.forwarder
        if service.scheduler is not None:
            yield ("services", index, "scheduler"), "scheduler", service.scheduler
    health = draft.sections.get("node_health")
    if isinstance(health, NodeHealthSection):
        for index, name in enumerate(health.sources):
            yield ("node_health", "sources", index), "health source", name
    if draft.quorum.transport is not None:
        yield ("load_balancer_quorum", "transport"), "sync transport", draft.quorum.transport
    announce = draft.sections.get("announce")
    if isinstance(announce, AnnounceSection) and announce.plugin is not None:
        yield ("announce", "plugin"), "announcer", announce.plugin


def parse_options(draft: Draft, plugins: Plugins) -> dict[str, Options]:
    """Return the options of every plugin in use; problems go to the draft."""
    usable: dict[str, type[Options]] = {}
    for path, kind, name in selected(draft):
        if draft.ok(*path):
            try:
                usable[name] = plugins.find(kind, name).Options
            except PluginError as error:
                draft.add(str(error), *path)
    tables = draft.data.get("plugins", {})
    if not isinstance(tables, dict):
        draft.add("must hold one section per plugin: write [plugins.<name>]", "plugins")
        tables = {}
    usable |= {name: cls.Options for name, cls in plugins.services().items()}
    usable |= _configured(draft, plugins, [name for name in tables if name not in usable])
    parsed = ((name, _parse(draft, name, usable[name], tables.get(name, {}))) for name in usable)
    return {
        name: options
        for name, options in sorted(parsed, key=lambda item: item[0])
        if options is not None
    }


def _configured(draft: Draft, plugins: Plugins, names: Sequence[str]) -> dict[str, type[Options]]:
    """Return the option models of sections whose plugin nothing selects."""
    broken_elsewhere = {name for _, _, name in selected(draft) if name in plugins.broken}
    models: dict[str, type[Options]] = {}
    for name in names:
        try:
            _kind(name, plugins)
            models[name] = plugins.options(name)
        except PluginError as error:
            if name not in broken_elsewhere:
                draft.add(str(error), "plugins", name)
    return models


def _parse(draft: Draft, name: str, model: type[Options], table: Any) -> Options | None:
    try:
        return parse_partly(draft, model, table, ("plugins", name))
    except Exception as error:
        # A validator of the plugin failed in a way that pydantic does not take for an answer.
        draft.add(f"cannot be validated: {type(error).__name__}: {error}", "plugins", name)
        return None


def check_forwarders(draft: Draft, plugins: Plugins, options: Mapping[str, Options]) -> None:
    """Ask every forwarder in use what it thinks of its services; problems go to the draft."""
    default = draft.forwarding.plugin
    used: dict[str, list[int]] = {} if draft.services else {default: []}
    for index, section in draft.services.items():
        used.setdefault(section.forwarder or default, []).append(index)
    for name, indices in used.items():
        path = ("forwarding", "plugin") if name == default else ("services", indices[0])
        try:
            cls: type[Forwarder] = plugins.forwarder(name)
        except PluginError:
            continue  # reported where it is selected
        _check_abilities(draft, cls, indices, path)
        if name in options and draft.ok("plugins", name):
            _ask(draft, cls, options[name], indices, path)


def check_transport(draft: Draft, plugins: Plugins, options: Mapping[str, Options]) -> None:
    """Ask the transport what it thinks of the group's addresses; problems go to the draft."""
    name = draft.quorum.transport
    if name is None or name not in options or not draft.ok("plugins", name):
        return
    addresses = [(one.ip, one.port) for one in draft.quorum.addresses]
    try:
        answers = plugins.sync_transport(name).check(options[name], addresses)
    except PluginError:
        return  # reported where it is selected
    except Exception as error:
        # Foreign code, as in `_ask`.
        answers = [f"its check of the configuration failed: {type(error).__name__}: {error}"]
    for answer in answers:
        draft.add(f"{name}: {answer}", "load_balancer_quorum", "transport")


def _check_abilities(
    draft: Draft, cls: type[Forwarder], indices: Sequence[int], path: KeyPath
) -> None:
    for index in indices:
        if draft.services[index].vip.version == 6 and not cls.supports_ipv6:
            draft.add(f"the forwarder {cls.name} cannot carry IPv6", "services", index, "vip")
    if draft.forwarding.xdp_mode == "tc" and not cls.supports_tc:
        text = f'"tc" is impossible with the forwarder {cls.name}, which runs under XDP only'
        draft.add(text, "forwarding", "xdp_mode")


def _ask(
    draft: Draft, cls: type[Forwarder], options: Options, indices: Sequence[int], path: KeyPath
) -> None:
    services = [draft.services[index].service(draft.forwarding) for index in indices]
    try:
        forwarder = cls(options)
        answers = forwarder.check(services, None)
        any_family = forwarder.any_family
    except Exception as error:
        # Foreign code: a bug in it must name the plugin instead of ending in a traceback.
        answers = [f"its check of the configuration failed: {type(error).__name__}: {error}"]
        any_family = True
    if not any_family:
        _check_families(draft, cls, indices)
    for answer in answers:
        draft.add(f"{cls.name}: {answer}", *path)


def _check_families(draft: Draft, cls: type[Forwarder], indices: Sequence[int]) -> None:
    for index in indices:
        section = draft.services[index]
        for place, node in enumerate(section.nodes):
            if node.version != section.vip.version:
                text = (
                    f"{node} cannot serve the VIP {section.vip}: with these settings the forwarder"
                    f" {cls.name} reaches nodes of the VIP's family only"
                )
                draft.add(text, "services", index, "nodes", place)
