# SPDX-License-Identifier: Apache-2.0
"""From the configuration's sections to the services that a balancer really serves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from galelb.errors import ConfigError
from galelb.model import Interface, IPAddress, Protocol, Service

if TYPE_CHECKING:
    from galelb.config import BalancerConfig

__all__ = ["acceptor", "accepts", "resolve_services", "service_key"]

DEFAULT_NAME = "default"


def service_key(service: Service) -> str:
    """Return what identifies a service for as long as its number lives."""
    return f"{service.protocol.name.lower()}/{service.vip}/{service.port}/{service.vlan}"


def accepts(service: Service, address: IPAddress, *, any_family: bool = False) -> bool:
    """Return whether a node at this address may serve the service.

    `any_family`: its forwarder reaches nodes of the other address family than the VIP's too.
    """
    return acceptor(service, any_family=any_family)(address)


def acceptor(service: Service, *, any_family: bool = False) -> Callable[[IPAddress], bool]:
    """Return `accepts` for many nodes: a service may name thousands."""
    named, version = frozenset(service.nodes), service.vip.version

    def accepted(address: IPAddress) -> bool:
        return (not named or address in named) and (any_family or address.version == version)

    return accepted


def resolve_services(config: BalancerConfig, public: Interface) -> tuple[Service, ...]:
    """Return the configured services, or the default one.

    Without any `[[services]]` it is one TCP service at the public interface's address and
    `clients_port`. Raises ConfigError when that interface has no usable address.
    """
    if config.services:
        return config.configured_services()
    vip = next((a for a in public.addresses if not a.is_link_local), None)
    if vip is None:
        raise ConfigError(
            [
                f"{config.path}: public_interface.net_interface_public: {public.name} has no "
                "address for the default service: give it one, or configure [[services]]"
            ]
        )
    port = config.public_interface.clients_port
    return (
        Service(
            name=DEFAULT_NAME,
            vip=vip,
            port=port,
            protocol=Protocol.TCP,
            target_port=port,
            forwarder=config.forwarding.plugin,
            scheduler=config.forwarding.scheduler,
        ),
    )
