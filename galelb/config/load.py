# SPDX-License-Identifier: Apache-2.0
"""Reads lb.toml: all problems of the file at once, or the validated value."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from galelb.config.checks import check_clashes
from galelb.config.draft import Draft, draft_sections
from galelb.config.models import BalancerConfig, BalancerSections
from galelb.config.plugins import (
    apply_selection,
    check_forwarders,
    check_transport,
    parse_options,
)
from galelb.config.problems import describe_errors, raise_problems
from galelb.config.toml_file import TomlFile, read_toml
from galelb.config.toml_json import parse_section, plain

if TYPE_CHECKING:
    from galelb.plugins import Plugins

__all__ = ["balancer_config", "load_balancer_config", "missing_interfaces"]


def load_balancer_config(
    path: Path, plugins: Plugins, select: Sequence[str] = ()
) -> BalancerConfig:
    """Return the validated configuration, with the options of every plugin in use.

    `select` holds the names of `--plugin`. Blocks on the disk. Raises ConfigError with all
    problems of the file, PluginError for a bad name in `select`. Broken plugins that the
    configuration does not use are logged as warnings.
    """
    return balancer_config(read_toml(path), plugins, select)


def balancer_config(file: TomlFile, plugins: Plugins, select: Sequence[str] = ()) -> BalancerConfig:
    """Return what `load_balancer_config` does, of a file that was read already."""
    data, problems = plain(file.data)
    apply_selection(data, select, plugins)
    draft = draft_sections(data)
    draft.problems.extend(problems)
    options = parse_options(draft, plugins)
    check_clashes(draft)
    check_forwarders(draft, plugins, options)
    check_transport(draft, plugins, options)
    raise_problems(file, draft.problems)
    sections = _sections(file, draft)
    plugins.warn_broken(options)
    values = {name: getattr(sections, name) for name in BalancerSections.model_fields}
    return BalancerConfig(**values, plugins=options, path=file.path)


def _sections(file: TomlFile, draft: Draft) -> BalancerSections:
    """Validate everything once more as a whole, which finds too many services or nodes."""
    sections = {key: draft.data[key] for key in draft.data if key != "plugins"}
    try:
        return parse_section(BalancerSections, sections)
    except ValidationError as error:
        raise_problems(file, describe_errors(error, BalancerSections))
        raise


def missing_interfaces(config: BalancerConfig) -> list[str]:
    """Return the configured interfaces that this machine (network namespace) does not have."""
    present = {name for _, name in socket.if_nameindex()}
    wanted = (
        config.private_interface.net_interface_private,
        config.public_interface.net_interface_public,
        *config.forwarding.extra_interfaces,
    )
    return [name for name in dict.fromkeys(wanted) if name not in present]
