# SPDX-License-Identifier: Apache-2.0
"""Which keys of two configurations differ, beside services and nodes."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from galelb.config import BalancerConfig
from galelb.config.models import BalancerSections
from galelb.config.show import section_values
from galelb.plan.values import SettingChange

__all__ = ["setting_changes"]


def setting_changes(old: BalancerConfig, new: BalancerConfig) -> list[SettingChange]:
    """Return the keys with other values, in the order of the file, as TOML.

    A secret counts as changed only if it comes or goes: nobody may see its value.
    """
    before, after = dict(_values(old)), dict(_values(new))
    return [
        SettingChange(key=key, before=before.get(key), after=after.get(key))
        for key in dict.fromkeys([*after, *before])
        if before.get(key) != after.get(key)
    ]


def _values(config: BalancerConfig) -> Iterator[tuple[str, str]]:
    """Iterate over keys, such as forwarding.plugin, that are set, and their values."""
    for path, section in _sections(config):
        for key, text in section_values(section, path):
            if text:
                yield ".".join((*path, key)), text


def _sections(config: BalancerConfig) -> Iterator[tuple[tuple[str, ...], BaseModel]]:
    for name in BalancerSections.model_fields:
        section = getattr(config, name)
        if isinstance(section, BaseModel):  # services and nodes are looked at by themselves
            yield (name,), section
    for name, options in config.plugins.items():
        yield ("plugins", name), options
