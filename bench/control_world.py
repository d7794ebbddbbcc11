# SPDX-License-Identifier: Apache-2.0
"""The network of the benchmark `control`: a balancer's two interfaces, clients and nodes beyond."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path

import attrs

from galelb.datapath.sandbox import NsThread, Sandbox

__all__ = ["PORT", "VIP", "Network", "lb_toml", "network", "node_address", "node_mac"]

PUBLIC, PRIVATE = "galepub0", "galepriv0"
PUBLIC_MAC, PRIVATE_MAC = "02:00:00:00:00:1b", "02:00:00:00:00:1c"
VIP = "198.51.100.1"
PORT = 1000
"""Of the first service; others have the ports after it."""
_FIRST = IPv4Address("10.0.1.1")
_SO_RCVBUFFORCE = 33
_BUFFER = 1 << 23
"""Seconds of packets, should whoever reads them not run for a while."""
_NODES_MAC = "02:00:00:00:02:00"


def node_address(number: int) -> IPv4Address:
    """Return the address of a node, 0 and up."""
    return _FIRST + number


def node_mac(number: int) -> str:
    """Return a MAC address for a node that does not speak for itself."""
    return f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}"


@attrs.frozen(kw_only=True)
class Network:
    """The balancer's namespace is the sandbox's; a namespace each is beyond its interfaces."""

    sandbox: Sandbox
    clients: NsThread
    nodes: NsThread


@contextlib.contextmanager
def network(*, answering: int = 0) -> Iterator[Network]:
    """Make the network; so many nodes answer for their addresses, all of them one machine."""
    with Sandbox() as sandbox:
        beyond = {PUBLIC: sandbox.namespace(), PRIVATE: sandbox.namespace()}
        for name, mac in ((PUBLIC, PUBLIC_MAC), (PRIVATE, PRIVATE_MAC)):
            sandbox.veth(name, f"{name}x", other=beyond[name])
            sandbox.command("ip", "link", "set", name, "address", mac)
            # Frames that XDP sends into a veth arrive only where the other end has GRO or XDP.
            beyond[name].command("ethtool", "-K", f"{name}x", "gro", "on")
        sandbox.command("ip", "address", "add", "192.0.2.1/24", "dev", PUBLIC)
        sandbox.command("ip", "address", "add", "10.0.0.1/16", "dev", PRIVATE)
        device = f"{PRIVATE}x"
        beyond[PRIVATE].command("ip", "link", "set", device, "address", _NODES_MAC)
        lines = [
            f"address add {node_address(number)}/16 dev {device}" for number in range(answering)
        ]
        _batch(beyond[PRIVATE], lines)
        yield Network(sandbox=sandbox, clients=beyond[PUBLIC], nodes=beyond[PRIVATE])


def _batch(namespace: NsThread, lines: Sequence[str]) -> None:
    with tempfile.NamedTemporaryFile("w", prefix="gale-bench-") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        namespace.command("ip", "-batch", file.name)


def lb_toml(
    folder: Path,
    *,
    forwarder: str,
    nodes: int,
    services: int,
    macs: bool = True,
    same: bool = True,
    sources: Sequence[str] = (),
) -> Path:
    """Write a balancer's configuration; returns its path.

    `nodes` are static, with MAC addresses or to be asked for theirs. With `same` all of them
    serve every service, else half of them without one, another for each service.
    """
    lines = [
        f'[instance]\nrun_dir = "{folder}"',
        f'[private_interface]\nnet_interface_private = "{PRIVATE}"',
        f'[public_interface]\nnet_interface_public = "{PUBLIC}"',
        f"[node_health]\nsources = {list(sources)!r}",
        f'[forwarding]\nplugin = "{forwarder}"',
    ]
    for number in range(services):
        lines.append(
            f'[[services]]\nname = "s{number}"\nvip = "{VIP}"\nport = {PORT + number}\n'
            f"target_port = {PORT if forwarder == 'l4_nat' else PORT + number}"
        )
        if not same:
            half = nodes // 2
            named = [str(node_address(one)) for one in range(half, nodes) if one != half + number]
            lines.append(f"nodes = {named!r}")
    for number in range(nodes):
        mac = f'\nmac = "{node_mac(number)}"' if macs else ""
        lines.append(f'[[nodes]]\nip = "{node_address(number)}"{mac}')
    path = folder / "lb.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def packet_socket(device: str, *, protocol: int = 0) -> socket.socket:
    """Return a socket for whole frames; call it in the device's namespace."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    sock.bind((device, protocol))
    return sock
