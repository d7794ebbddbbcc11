# SPDX-License-Identifier: Apache-2.0
"""Who a balancer is in its group, and what it must share with the others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import attrs

from galelb.config import BalancerConfig
from galelb.config.shared import shared_settings
from galelb.errors import ConfigError
from galelb.model import IPAddress

__all__ = ["Identity", "identify", "setting_digests"]

_SERVICES = "services."


@attrs.frozen(kw_only=True)
class Identity:
    """One balancer's name and place, and where the others may be."""

    name: str
    address: IPAddress
    port: int
    peers: tuple[tuple[IPAddress, int], ...]

    @property
    def size(self) -> int:
        """Distinct balancers that are configured, oneself among them."""
        return 1 + len(self.peers)


def identify(config: BalancerConfig, own: Sequence[IPAddress]) -> Identity:
    """Return who the balancer with these private addresses is.

    It listens where the configuration lists it, else at the first address of the family that
    its peers have. Raises ConfigError when it has no such address.
    """
    quorum = config.load_balancer_quorum
    port = config.private_interface.load_balancer_port
    listed = tuple((peer.ip, peer.port) for peer in quorum.addresses)
    families = {ip.version for ip, _ in listed} or {4, 6}
    candidates = [ip for ip, at in listed if ip in own and at == port]
    candidates += [ip for ip in own if ip.version in families and not ip.is_link_local]
    if not candidates:
        interface = config.private_interface.net_interface_private
        raise ConfigError(
            [
                f"{config.path}: load_balancer_quorum: {interface} has no address that the other"
                " balancers could reach: give it one of the family of `addresses`"
            ]
        )
    address = candidates[0]
    return Identity(
        name=quorum.name or str(address),
        address=address,
        port=port,
        peers=tuple(peer for peer in listed if peer != (address, port)),
    )


def setting_digests(config: BalancerConfig) -> dict[str, str]:
    """Return short digests of what the group must share; one for each service, else by key.

    Digests, since others are to say which keys differ and not what they hold.
    """
    grouped: dict[str, list[str]] = {}
    for key, value in shared_settings(config).items():
        service = key.startswith(_SERVICES)
        name = key.rpartition(".")[0] if service else key
        grouped.setdefault(name, []).append(f"{key}={value}")
    return {
        name: hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]
        for name, lines in grouped.items()
    }
