# SPDX-License-Identifier: Apache-2.0
"""The configuration files of a lab's hosts, written as an operator would write them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from galelb.lab.bird import balancer_bird, router_bird
from galelb.lab.group_config import group_sections, plugin_sections
from galelb.lab.hosts import (
    CLIENTS_PORT,
    NODE_PORT,
    PEER_PORT,
    PUBLIC,
    Host,
    Plan,
    Role,
    Vip,
)

__all__ = ["CHECKS_TIMEOUT_S", "config_files", "config_text"]

CHECKS_TIMEOUT_S = 1.0
"""The shortest allowed: the evaluator watches a node leave and is not to wait."""


def config_files(plan: Plan, host: Host) -> dict[Path, str]:
    """Return the host's configuration files and their texts; empty for a host without any."""
    files: dict[Path, str] = {}
    if host.role is Role.ROUTER:
        files = router_bird(plan, host)
    elif host.config is not None:
        files = {host.config: config_text(plan, host)}
        if host.role is Role.BALANCER and plan.spec.has_router:
            files |= balancer_bird(plan, host)
    return files


def config_text(plan: Plan, host: Host) -> str:
    """Return the text of a balancer's lb.toml or a node's node.toml."""
    lines = _balancer(plan, host) if host.role is Role.BALANCER else _node(plan, host)
    return "\n".join(lines) + "\n"


def _balancer(plan: Plan, host: Host) -> Iterator[str]:
    spec = plan.spec
    device = {link.network: link.device for link in host.links}
    yield "[instance]"
    yield f'name = "{host.name}"'
    yield f'run_dir = "{plan.directory}"'
    yield "\n[private_interface]"
    yield f"node_port = {NODE_PORT}"
    if spec.is_group:
        yield f"load_balancer_port = {PEER_PORT}"
    yield f'net_interface_private = "{device[plan.private]}"'
    yield "\n[public_interface]"
    yield f"clients_port = {CLIENTS_PORT}"
    yield f'net_interface_public = "{device[PUBLIC]}"'
    yield "\n[node_health]"
    yield f'checks_timeout = "{CHECKS_TIMEOUT_S:g}s"'
    yield 'black_list_expiry = "10s"'
    if spec.is_group:
        yield from group_sections(plan, host)
    yield "\n[forwarding]"
    yield f'plugin = "{spec.plugin}"'
    yield from _forwarder_options(plan, host)
    if spec.is_group:
        yield from plugin_sections(plan, host)
    if spec.needs_services:
        yield from _services(vip for vip in plan.vips if vip.balancer in (host.name, None))


def _forwarder_options(plan: Plan, host: Host) -> Iterator[str]:
    options = list(plan.spec.options)
    if host.sources:
        quoted = ", ".join(f'"{source}"' for source in host.sources)
        options.append(("source_addresses", f"[{quoted}]"))
    if options:
        yield f"\n[plugins.{plan.spec.plugin}]"
        yield from (f"{key} = {value}" for key, value in options)


def _services(vips: Iterator[Vip]) -> Iterator[str]:
    for vip in vips:
        yield "\n[[services]]"
        yield f'name = "{vip.service}"'
        yield f'vip = "{vip.address}"'
        yield f"port = {vip.port}"
        yield f'protocol = "{vip.protocol}"'


def _node(plan: Plan, host: Host) -> Iterator[str]:
    # A node is known by the address it reports from, so with two families it reports twice.
    addresses = [
        f'  {{ ip = "{address.ip}", port = {NODE_PORT} }},'
        for balancer in plan.of(Role.BALANCER)
        for address in balancer.addresses(plan.private)
    ]
    yield "[load_balancer]"
    yield "addresses = ["
    yield from addresses
    yield "]"
    yield "\n[node]"
    yield f'name = "{host.name}"'
    yield f"weight = {host.weight}"
    yield f'state_file = "{host.directory / host.name}.host.json"'
    yield f'stop_file = "{host.directory / host.name}.stopped"'
    yield "\n[[checks]]"
    yield 'name = "http"'
    yield 'type = "http"'
    yield f'url = "http://127.0.0.1:{CLIENTS_PORT}/health"'
    yield 'interval = "500ms"'
    yield 'timeout = "400ms"'
