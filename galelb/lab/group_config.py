# SPDX-License-Identifier: Apache-2.0
"""What balancers of a group have in their configuration besides."""

from __future__ import annotations

from collections.abc import Iterator

from galelb.lab.bird import announced_file, control_socket
from galelb.lab.etcd import etcd_url
from galelb.lab.hosts import PEER_PORT, SHARING_PORT, Host, Plan, Role

__all__ = ["group_sections", "plugin_sections"]


def group_sections(plan: Plan, balancer: Host) -> Iterator[str]:
    """Yield the lines of the group's sections."""
    yield "\n[load_balancer_quorum]"
    yield f'transport = "sync_{plan.spec.transport}"'
    yield f'name = "{balancer.name}"'
    yield f"sharing_port = {SHARING_PORT}"
    yield "enforce_single_configuration = true"
    yield "addresses = ["
    for peer in plan.of(Role.BALANCER):
        yield f'  {{ ip = "{peer.addresses(plan.private)[0].ip}", port = {PEER_PORT} }},'
    yield "]"
    yield "\n[announce]"
    yield f'plugin = "announce_{plan.spec.announce}"'
    if plan.gateways:
        quoted = ", ".join(f'"{gateway}"' for gateway in plan.gateways)
        yield f"gateways = [{quoted}]"


def plugin_sections(plan: Plan, balancer: Host) -> Iterator[str]:
    """Yield the lines of the sections of the transport and the announcer."""
    if plan.spec.has_etcd:
        yield "\n[plugins.sync_etcd]"
        yield f'endpoints = ["{etcd_url(plan)}"]'
        yield 'lease_ttl = "2s"'
        yield f'group_key_file = "{plan.key_file}"'
    else:
        yield "\n[plugins.sync_gossip]"
        yield f'key_file = "{plan.key_file}"'
    if plan.spec.has_router:
        yield "\n[plugins.announce_bgp]"
        yield f'include_file = "{announced_file(balancer)}"'
        yield f'control_socket = "{control_socket(balancer)}"'
