# SPDX-License-Identifier: Apache-2.0
"""Builds the network of a scene in a namespace of its own, and fills maps as galelb run would."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs
import trio

from galelb.bpf.matching import service_keys
from galelb.control.controller import Controller, Served
from galelb.control.identity import Numbering
from galelb.control.settings import health_settings, table_settings
from galelb.datapath.interfaces import wanted_interfaces
from galelb.datapath.limits import MAX_KNOWN_NODES, MAX_NODES
from galelb.health import NodeHealth
from galelb.model import Interface, IPAddress, NextHop
from galelb.resolve.next_hops import NextHopTable
from galelb.tables.keeper import TableKeeper

if TYPE_CHECKING:
    from galelb.config import BalancerConfig
    from galelb.datapath.programs import Generation
    from galelb.datapath.sandbox import Sandbox
    from galelb.plugins import Plugins
    from galelb.trace.scene import Scene

__all__ = ["Filled", "build_network", "fill_maps"]

_GATEWAYS = {4: "169.254.0.1", 6: "fe80::1"}
"""Routers to the clients. Nobody sees their addresses: packets hold only their MAC."""
_EVERYWHERE = {4: "0.0.0.0/0", 6: "::/0"}
_FORWARDING = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")


def build_network(sandbox: Sandbox, config: BalancerConfig, scene: Scene) -> dict[str, Interface]:
    """Make the configuration's interfaces with routes and neighbours; return them by name.

    Devices have names of their own, so that any configured name will do. They have no
    addresses, since nothing that a file holds shall count as one of this machine's.
    """
    wanted = wanted_interfaces(config)
    devices = {name: f"gale{number}" for number, name in enumerate(wanted)}
    sandbox.run(_enable_forwarding)
    macs = {name: _mac(scene, role, number) for number, (name, role) in enumerate(wanted.items())}
    private = devices[config.private_interface.net_interface_private]
    public = devices[config.public_interface.net_interface_public]
    lines = [
        line for name, device in devices.items() for line in _device(device, macs[name], scene.mtu)
    ]
    lines += [*_to_nodes(scene, private), *_to_clients(scene, public)]
    with tempfile.NamedTemporaryFile("w", prefix="gale-trace-") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        sandbox.command("ip", "-batch", file.name)
    return {
        name: Interface(
            name=name,
            ifindex=sandbox.run(socket.if_nametoindex, devices[name]),
            mac=macs[name],
            mtu=scene.mtu,
            addresses=_addresses(scene, role),
        )
        for name, role in wanted.items()
    }


def _enable_forwarding() -> None:
    for name in _FORWARDING:
        Path("/proc/sys", name).write_text("1")


def _mac(scene: Scene, role: str, number: int) -> str:
    if role == "private":
        return scene.src_mac
    return f"02:00:00:00:01:{number:02x}" if role == "extra" else scene.vip_mac


def _addresses(scene: Scene, role: str) -> tuple[IPAddress, ...]:
    found = {
        "public": tuple(scene.public_addresses),
        "private": tuple(scene.private_addresses),
        "both": (*scene.private_addresses, *scene.public_addresses),
    }
    return found.get(role, ())


def _device(device: str, mac: str, mtu: int) -> Iterator[str]:
    yield f"link add {device} address {mac} mtu {mtu} type veth peer name {device}x"
    yield f"link set {device}x mtu {mtu} up"
    yield f"link set {device} up"


def _to_nodes(scene: Scene, device: str) -> Iterator[str]:
    for node in scene.nodes:
        yield f"route replace {node.address} dev {device}"
        yield f"neigh replace {node.address} lladdr {node.mac} dev {device} nud permanent"


def _to_clients(scene: Scene, device: str) -> Iterator[str]:
    for version, gateway in _GATEWAYS.items():
        mac = scene.gateway_mac
        yield f"neigh replace {gateway} lladdr {mac} dev {device} nud permanent"
        yield f"route add {_EVERYWHERE[version]} via {gateway} dev {device} onlink"


@attrs.frozen(kw_only=True)
class Filled:
    """What the control plane made of the nodes: their numbers, and which forwarder refuses some.

    `refused` are forwarders with what they say of a node.
    """

    numbers: Mapping[IPAddress, int]
    refused: Sequence[tuple[str, str]]


class _BuildingOnly:
    """The plugins as far as tables need them: nobody is told of tables that nobody uses."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins

    def build_table(self, *arguments: Any) -> Sequence[int]:
        """Ask the scheduler."""
        return self._plugins.build_table(*arguments)

    def table_changed(self, *arguments: Any) -> None:
        """Tell nobody."""


def fill_maps(
    generation: Generation,
    config: BalancerConfig,
    plugins: Plugins,
    scene: Scene,
    private: Interface,
) -> Filled:
    """Have the control plane write what it would write. Blocks."""
    plugins.configure(config)
    return trio.run(_fill, generation, config, plugins, scene, private)


async def _fill(
    generation: Generation,
    config: BalancerConfig,
    plugins: Plugins,
    scene: Scene,
    private: Interface,
) -> Filled:
    request = generation.request
    health = NodeHealth(health_settings(config), max_nodes=MAX_KNOWN_NODES)
    next_hops = NextHopTable(request.limits.max_next_hops)
    for node in scene.nodes:
        assert node.mac is not None
        health.add_static(node, trio.current_time())
        health.set_neighbour(node.address, node.mac, trio.current_time())
        next_hops.set_node(
            node.address,
            NextHop(ifindex=private.ifindex, dst_mac=node.mac, src_mac=private.mac, mtu=scene.mtu),
        )
    controller = Controller(
        health=health,
        nodes=Numbering("node", MAX_NODES),
        next_hops=next_hops,
        tables=TableKeeper(cast("Plugins", _BuildingOnly(plugins)), table_settings(config)),
    )
    controller.tables.use(generation.maps["gale_slots"], {})
    await controller.serve(
        Served(
            services=request.services,
            forwarders=request.forwarders,
            host=request.host,
            maps=generation.maps,
        )
    )
    if keys := service_keys(request.services):
        generation.maps["gale_service_keys"].update(keys)
    numbers = controller.nodes.known()
    return Filled(
        numbers={node.address: numbers[str(node.address)] for node in scene.nodes},
        refused=[
            (name, reason)
            for name, forwarder in request.forwarders.items()
            for reason in forwarder.unroutable(controller.view(name)).values()
        ],
    )
