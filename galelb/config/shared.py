# SPDX-License-Identifier: Apache-2.0
"""What the balancers of a group must have in common, and its digest."""

from __future__ import annotations

import hashlib
import json

from pydantic import BaseModel

from galelb.config.models import BalancerConfig
from galelb.config.redaction import is_secret

__all__ = ["digest", "shared_settings"]

_SHARED_FORWARDING = ("plugin", "scheduler", "table_size", "table_seed")


def shared_settings(config: BalancerConfig) -> dict[str, str]:
    """Return what a group must share, as text by key path; never secrets.

    These are node_health, the parts of forwarding that decide where a packet goes, the
    services, and plugin options declared with `json_schema_extra={"shared": True}`.
    Interface names and own addresses may differ.
    """
    settings = _flat("node_health", config.node_health)
    settings |= _flat("forwarding", config.forwarding, _SHARED_FORWARDING)
    for section in config.services:
        service = section.model_copy(
            update={
                "forwarder": section.forwarder or config.forwarding.plugin,
                "scheduler": section.scheduler or config.forwarding.scheduler,
                "target_port": section.target_port or section.port,
                "nodes": tuple(sorted(section.nodes, key=str)),
            }
        )
        settings |= _flat(f"services.{section.name}", service)
    for name, options in config.plugins.items():
        settings |= _flat(f"plugins.{name}", options, _marked(options))
    return dict(sorted(settings.items()))


def digest(config: BalancerConfig) -> str:
    """Return 64 hex digits that are equal exactly when the shared settings are."""
    text = json.dumps(shared_settings(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _marked(options: BaseModel) -> tuple[str, ...]:
    return tuple(
        name
        for name, field in type(options).model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("shared")
    )


def _flat(prefix: str, section: BaseModel, keys: tuple[str, ...] | None = None) -> dict[str, str]:
    values = section.model_dump(mode="json")
    return {
        f"{prefix}.{key}": json.dumps(values[key], sort_keys=True)
        for key in (values if keys is None else keys)
        if not is_secret((*prefix.split("."), key)[-1:])
    }
