# SPDX-License-Identifier: Apache-2.0
"""Writes a configuration back as TOML with every default filled in and every secret hidden."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from galelb.config.models import BalancerConfig, BalancerSections
from galelb.config.option_schema import value_text
from galelb.config.redaction import redact
from galelb.durations import is_duration

__all__ = ["section_values", "show_config", "show_sections"]


def show_config(config: BalancerConfig) -> str:
    """Return the effective lb.toml; secrets are replaced."""
    lines = list(_tables(config, tuple(BalancerSections.model_fields)))
    if not config.services:
        public = config.public_interface
        lines += [
            f"# no [[services]]: one TCP service at the address of {public.net_interface_public}, "
            f"port {public.clients_port}",
            "",
        ]
    for name, options in config.plugins.items():
        lines += _section(f"[plugins.{name}]", options, ("plugins", name))
    return "\n".join(lines).rstrip() + "\n"


def show_sections(config: BaseModel) -> str:
    """Return any configuration made of sections and arrays of sections, such as node.toml."""
    return "\n".join(_tables(config, tuple(type(config).model_fields))).rstrip() + "\n"


def _tables(config: BaseModel, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from _section(f"[{name}]", value, (name,))
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                yield from _section(f"[[{name}]]", item, (name, index))


def _section(header: str, section: BaseModel, path: tuple[str | int, ...]) -> list[str]:
    split = path[0] == "plugins"  # tables of the core are short: one line says it all
    tables = {key: value for key, value in section if split and _is_tables(value)}
    lines = [header]
    for key, text in section_values(section, path):
        if key not in tables:
            lines.append(f"{key} = {text}" if text else f"# {key}: not set")
    lines.append("")
    for key, value in tables.items():
        for index, item in enumerate(value):
            lines += _section(f"[[{header.strip('[]')}.{key}]]", item, (*path, key, index))
    return lines


def section_values(section: BaseModel, path: tuple[str | int, ...]) -> Iterator[tuple[str, str]]:
    """Iterate over the keys of a section at `path`, and their values as TOML; "" = not set."""
    for key, field in type(section).model_fields.items():
        value = redact(_plain(getattr(section, key)), (*path, key))
        yield key, value_text(value, duration=_is_duration(field) and isinstance(value, float))


def _is_duration(field: FieldInfo) -> bool:
    """Return whether a field is a Duration, or an optional one."""
    parts = [part for part in get_args(field.annotation) if get_origin(part) is Annotated]
    return is_duration(field.metadata) or any(is_duration(get_args(part)) for part in parts)


def _is_tables(value: Any) -> bool:
    """Return whether a value is an array of tables, which TOML writes after the other keys."""
    return isinstance(value, tuple) and any(isinstance(item, BaseModel) for item in value)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
