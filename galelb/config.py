# SPDX-License-Identifier: Apache-2.0
"""lb.toml as a validated, frozen value: the models and the functions that read the file."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from galelb.config_checks import check_clashes, config_warnings
from galelb.config_digest import digest, shared_settings
from galelb.config_draft import Draft, draft_sections
from galelb.config_errors import describe_errors, raise_problems
from galelb.config_models import (
    AnnounceSection,
    BalancerConfig,
    BalancerSections,
    ForwardingSection,
    InstanceSection,
    NodeHealthSection,
    NodeSection,
    PeerAddress,
    PrivateInterfaceSection,
    PublicInterfaceSection,
    QuorumSection,
    ServiceSection,
)
from galelb.config_plugins import apply_selection, check_forwarders, parse_options
from galelb.durations import Duration, format_duration, parse_duration
from galelb.plugins import Plugins
from galelb.toml_file import TomlFile, find_config, read_toml
from galelb.toml_json import parse_section, plain

__all__ = [
    "AnnounceSection",
    "BalancerConfig",
    "Duration",
    "ForwardingSection",
    "InstanceSection",
    "NodeHealthSection",
    "NodeSection",
    "PeerAddress",
    "PrivateInterfaceSection",
    "PublicInterfaceSection",
    "QuorumSection",
    "ServiceSection",
    "config_warnings",
    "digest",
    "find_config",
    "format_duration",
    "load_balancer_config",
    "missing_interfaces",
    "parse_duration",
    "shared_settings",
]


def load_balancer_config(
    path: Path, plugins: Plugins, select: Sequence[str] = ()
) -> BalancerConfig:
    """Return the validated configuration, with the options of every plugin in use.

    `select` holds the names of `--plugin`. Blocks on the disk. Raises ConfigError with all
    problems of the file, PluginError for a bad name in `select`. Broken plugins that the
    configuration does not use are logged as warnings.
    """
    file = read_toml(path)
    data, problems = plain(file.data)
    apply_selection(data, select, plugins)
    draft = draft_sections(data)
    draft.problems.extend(problems)
    options = parse_options(draft, plugins)
    check_clashes(draft)
    check_forwarders(draft, plugins, options)
    raise_problems(file, draft.problems)
    sections = _sections(file, draft)
    plugins.warn_broken(options)
    values = {name: getattr(sections, name) for name in BalancerSections.model_fields}
    return BalancerConfig(**values, plugins=options, path=path)


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
