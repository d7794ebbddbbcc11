# SPDX-License-Identifier: Apache-2.0
"""lb.toml and node.toml as validated, frozen values: models, checks, errors that name the key.

Lazy: `galelb status` only looks for a file (galelb.config.toml_file) and needs no pydantic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from galelb.lazy import lazily

if TYPE_CHECKING:
    from galelb.config.checks import config_warnings
    from galelb.config.load import load_balancer_config, missing_interfaces
    from galelb.config.models import (
        AnnounceSection,
        BalancerConfig,
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
    from galelb.config.shared import digest, shared_settings
    from galelb.config.toml_file import find_config
else:
    __getattr__ = lazily(
        __name__,
        {
            "AnnounceSection": "models",
            "BalancerConfig": "models",
            "ForwardingSection": "models",
            "InstanceSection": "models",
            "NodeHealthSection": "models",
            "NodeSection": "models",
            "PeerAddress": "models",
            "PrivateInterfaceSection": "models",
            "PublicInterfaceSection": "models",
            "QuorumSection": "models",
            "ServiceSection": "models",
            "config_warnings": "checks",
            "digest": "shared",
            "shared_settings": "shared",
            "find_config": "toml_file",
            "load_balancer_config": "load",
            "missing_interfaces": "load",
        },
    )

__all__ = [
    "AnnounceSection",
    "BalancerConfig",
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
    "load_balancer_config",
    "missing_interfaces",
    "shared_settings",
]
