# SPDX-License-Identifier: Apache-2.0
"""What a configuration asks to be compiled and loaded, given the machine that it is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from galelb.datapath.interfaces import wanted_interfaces
from galelb.datapath.limits import limits_for
from galelb.datapath.programs import LoadRequest
from galelb.errors import ConfigError, PluginError
from galelb.plugins.blame import blamed

if TYPE_CHECKING:
    from galelb.config import BalancerConfig
    from galelb.forwarder import Forwarder, HostView
    from galelb.model import Interface, Service
    from galelb.plugins import Plugins

__all__ = ["MAX_PLAIN_MTU", "load_request"]

MAX_PLAIN_MTU = 3498
"""Above this, native XDP needs programs that declare fragment support (one page per frame)."""


def load_request(
    plugins: Plugins,
    config: BalancerConfig,
    services: Mapping[int, Service],
    host: HostView,
    present: Mapping[str, Interface],
) -> LoadRequest:
    """Return what to load for services by id; `present` are the machine's interfaces by name.

    Raises ConfigError, PluginError.
    """
    forwarders = _forwarders(plugins, config, services, host)
    wanted = wanted_interfaces(config)
    mtus = [present[name].mtu for name in wanted if name in present]
    return LoadRequest(
        services=services,
        forwarders=forwarders,
        host=host,
        limits=limits_for(services, config.forwarding.table_size),
        table_seed=config.forwarding.table_seed,
        tc=_asks_for_tc(config, forwarders, wanted),
        frags=max(mtus, default=0) > MAX_PLAIN_MTU,
    )


def _forwarders(
    plugins: Plugins, config: BalancerConfig, services: Mapping[int, Service], host: HostView
) -> dict[str, Forwarder]:
    """Return the forwarders in use. Raises ConfigError with what they object to."""
    forwarders: dict[str, Forwarder] = {}
    problems: list[str] = []
    for name in sorted({service.forwarder for service in services.values()}):
        mine = [s for s in services.values() if s.forwarder == name]
        with blamed(name, "check"):
            forwarder = plugins.forwarder(name)(config.plugins[name])
            forwarder.shared = host.grouped
            problems += [f"{config.path}: {text}" for text in forwarder.check(mine, host)]
        if not forwarder.source.is_file():
            raise PluginError(name, f"its C file {forwarder.source} does not exist")
        forwarders[name] = forwarder
    if problems:
        raise ConfigError(problems)
    return forwarders


def _asks_for_tc(
    config: BalancerConfig, forwarders: Mapping[str, Forwarder], wanted: Mapping[str, str]
) -> bool:
    """TC costs start time, so it is compiled only when the configuration asks for it."""
    if not all(forwarder.supports_tc for forwarder in forwarders.values()):
        return False
    return (
        config.forwarding.xdp_mode == "tc"
        or "extra" in wanted.values()
        or any(forwarder.needs_tc_egress for forwarder in forwarders.values())
    )
