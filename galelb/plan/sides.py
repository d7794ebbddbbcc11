# SPDX-License-Identifier: Apache-2.0
"""Both sides of a change: what a balancer runs, or files say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from galelb.config.load import balancer_config
from galelb.config.redaction import REDACTED
from galelb.config.toml_file import TomlFile, parse_toml
from galelb.errors import ConfigError, GaleError
from galelb.model import IPAddress, Node, NodeRecord, NodeState, Protocol, Service
from galelb.plan.nodes import after_reload, configured
from galelb.plan.values import KnownNode, Side
from galelb.services import resolve_services, service_key

if TYPE_CHECKING:
    from galelb.client import ApiClient
    from galelb.config import BalancerConfig
    from galelb.model import Interface
    from galelb.plugins import Plugins

__all__ = ["next_side", "offline_side", "running_side"]

Json = Mapping[str, Any]

_REPORTS = ("serving", "not serving", "shutting down")
_OBJECTIONS = ("not serving", "failed")


def running_side(client: ApiClient, plugins: Plugins) -> Side:
    """Return what the balancer runs. Raises GaleError."""
    told = client.get("config")
    file, hidden = _without_secrets(parse_toml(Path(str(told["path"])), str(told["toml"])))
    config = _told(file, plugins)
    macs = {section.ip: section.mac for section in config.nodes}
    listed = client.get("services")["services"]
    services = [_service(one) for one in listed]
    keys = [service_key(service) for service in services]
    return Side(
        config=config,
        services=tuple(services),
        nodes=tuple(_known(one, macs) for one in client.get("nodes")["nodes"]),
        ids={key: int(one["id"]) for key, one in zip(keys, listed, strict=True)},
        digests={key: str(one["table_digest"]) for key, one in zip(keys, listed, strict=True)},
        hidden=hidden,
    )


def _told(file: TomlFile, plugins: Plugins) -> BalancerConfig:
    try:
        return balancer_config(file, plugins)
    except ConfigError as error:
        raise GaleError(
            "the balancer's configuration cannot be read here; is it of another version, or has"
            f" it other plugins? {'; '.join(error.problems)}"
        ) from None


def offline_side(config: BalancerConfig, public: Callable[[str], Interface]) -> Side:
    """Return what a file says, with its static nodes as if all of them were healthy."""
    return Side(config=config, services=_services(config, None, public), nodes=configured(config))


def next_side(old: Side, new: BalancerConfig, public: Callable[[str], Interface]) -> Side:
    """Return what `new` makes of the other side; `public` finds an interface by its name."""
    return Side(
        config=new,
        services=_services(new, old, public),
        nodes=after_reload(old.nodes, new),
    )


def _services(
    config: BalancerConfig, old: Side | None, public: Callable[[str], Interface]
) -> tuple[Service, ...]:
    if config.services:
        return config.configured_services()
    name = config.public_interface.net_interface_public
    former = old and old.config.public_interface.net_interface_public
    if old is not None and not old.config.services and former == name:
        return tuple(_default(service, config) for service in old.services)
    return resolve_services(config, public(name))


def _default(service: Service, config: BalancerConfig) -> Service:
    """Return the default service as this configuration has it, at the address that it has."""
    port = config.public_interface.clients_port
    return attrs.evolve(
        service,
        port=port,
        target_port=port,
        forwarder=config.forwarding.plugin,
        scheduler=config.forwarding.scheduler,
    )


def _without_secrets(file: TomlFile) -> tuple[TomlFile, tuple[str, ...]]:
    """Return a file without the values that are hidden, and their keys."""
    hidden: list[str] = []

    def seen(value: Any, path: str) -> Any:
        if isinstance(value, dict):
            kept = {k: seen(v, f"{path}.{k}" if path else k) for k, v in value.items()}
            return {k: v for k, v in kept.items() if v is not None}
        if value == REDACTED:
            hidden.append(path)
            return None
        return value

    return attrs.evolve(file, data=seen(file.data, "")), tuple(hidden)


def _service(told: Json) -> Service:
    return Service(
        name=str(told["name"]),
        vip=ip_address(told["vip"]),
        port=int(told["port"]),
        protocol=Protocol[str(told["protocol"]).upper()],
        target_port=int(told["target_port"]),
        forwarder=str(told["forwarder"]),
        scheduler=str(told["scheduler"]),
        vlan=int(told["vlan"]),
        nodes=tuple(ip_address(address) for address in told["nodes"]),
    )


def _known(told: Json, macs: Mapping[IPAddress, str | None]) -> KnownNode:
    address = ip_address(told["address"])
    record = NodeRecord(
        node=Node(
            address=address,
            mac=macs.get(address),
            name=str(told["name"]),
            weight=int(told["own_weight"]),
            static=bool(told["static"]),
        ),
        state=NodeState(told["state"]),
        draining=bool(told["draining"]),
        operator_weight=told["operator_weight"],
        reason=str(told["reason"]),
        neighbour=told["neighbour"],
        start_share=int(told["start_share"]),
        load_share=int(told["load_share"]),
    )
    words = told["health"]
    refused = record.takes_new_flows and not told["takes_new_flows"]
    return KnownNode(
        record=record,
        weight_from=str(told["weight_from"]),
        reporters=frozenset(word["source"] for word in words if word["word"] in _REPORTS),
        objected=any(word["word"] in _OBJECTIONS for word in words),
        refused=str(told["unroutable_reason"]) if refused else "",
    )
