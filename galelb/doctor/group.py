# SPDX-License-Identifier: Apache-2.0
"""What can keep a balancer from its group, or addresses of a group from moving."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from galelb.config import BalancerConfig
from galelb.doctor.findings import Finding, ok, warn
from galelb.model import Interface, IPAddress, Service

__all__ = ["check_group"]

_LOOPBACK = "lo"


def check_group(
    config: BalancerConfig, interfaces: Mapping[str, Interface], services: tuple[Service, ...]
) -> Iterator[Finding]:
    """Yield what each check finds; nothing of a lone balancer.

    `interfaces` are without addresses that a running group was lent.
    """
    if config.load_balancer_quorum.transport is None:
        return
    yield _place(config, interfaces)
    if config.announce.plugin is None:
        text = "no announcer: VIPs stay where they are when a balancer dies"
        yield warn("announce", f'{text}; set plugin in [announce], such as "announce_arp"')
    elif config.services:
        yield from _fixed_vips(config, interfaces, services)


def _place(config: BalancerConfig, interfaces: Mapping[str, Interface]) -> Finding:
    """Others know this balancer by where they are told that it is."""
    quorum = config.load_balancer_quorum
    name = config.private_interface.net_interface_private
    own = interfaces[name].addresses if name in interfaces else ()
    port = config.private_interface.load_balancer_port
    listed = [peer for peer in quorum.addresses if peer.ip in own]
    here = ", ".join(map(str, own)) or "no address"
    if any(peer.port == port for peer in listed):
        return ok("group", f"{len(quorum.addresses)} balancers, this one among them")
    if listed:
        text = f"{listed[0].ip} is listed with port {listed[0].port}, load_balancer_port is {port}"
        return warn("group", f"{text}: the others look for this balancer where it is not")
    text = f"no address of {name} ({here}) is in load_balancer_quorum.addresses"
    return warn("group", f"{text}: it counts as one more balancer, and others do not look for it")


def _fixed_vips(
    config: BalancerConfig, interfaces: Mapping[str, Interface], services: tuple[Service, ...]
) -> Iterator[Finding]:
    holders: dict[IPAddress, str] = {
        address: one.name for one in interfaces.values() for address in one.addresses
    }
    for vip in dict.fromkeys(service.vip for service in services):
        holder = holders.get(vip)
        if holder is not None and holder != _LOOPBACK:
            yield warn(
                f"vip {vip}",
                f"is an address of {holder} for ever, so that it cannot move to another balancer:"
                f" let {config.announce.plugin} put it where it belongs",
                f"ip address del {vip}/{vip.max_prefixlen} dev {holder}",
            )
