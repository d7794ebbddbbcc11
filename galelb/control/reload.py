# SPDX-License-Identifier: Apache-2.0
"""What a running balancer cannot change, said before anything is touched."""

from __future__ import annotations

from galelb.config import BalancerConfig

__all__ = ["fixed_changes"]

_FIXED = (
    ("instance", ("name", "run_dir")),
    (
        "private_interface",
        ("node_port", "api_port", "api_token_reads", "load_balancer_port", "net_interface_private"),
    ),
    ("public_interface", ("net_interface_public",)),
    ("load_balancer_quorum", ("transport", "addresses", "name", "sharing_port")),
    ("forwarding", ("table_size", "table_seed", "extra_interfaces", "xdp_mode")),
    ("announce", ("plugin", "gateways")),
)


def fixed_changes(old: BalancerConfig, new: BalancerConfig) -> list[str]:
    """Return one sentence for each key that differs and takes a restart to change."""
    problems = []
    for section, keys in _FIXED:
        before, after = getattr(old, section), getattr(new, section)
        problems += [
            f"{section}.{key}: cannot change while running ({getattr(before, key)} to "
            f"{getattr(after, key)}): restart the balancer, which breaks no connection"
            for key in keys
            if getattr(before, key) != getattr(after, key)
        ]
    return problems
