# SPDX-License-Identifier: Apache-2.0
"""Builds and removes the namespaces, bridges and links of a lab; never touches the root one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from galelb.errors import EnvironmentProblem, LabError
from galelb.lab.hosts import Host, Link, Network, Plan, Role

__all__ = [
    "NETNS_DIR",
    "build_topology",
    "cut",
    "heal",
    "namespaces_of",
    "nsenter",
    "remove_namespaces",
    "run_tool",
]

NETNS_DIR = Path("/run/netns")
_BRIDGE = "br0"
_TOOL_TIMEOUT_S = 20


def run_tool(argv: Sequence[str], text: str = "") -> str:
    """Run a system tool and return what it printed; LabError quotes it when it fails."""
    try:
        done = subprocess.run(
            argv, input=text, capture_output=True, text=True, timeout=_TOOL_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise EnvironmentProblem(
            f"{argv[0]} is not installed: install iproute2, ethtool and util-linux"
        ) from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(argv)}: no end after {_TOOL_TIMEOUT_S} s") from None
    if done.returncode:
        raise LabError(f"{' '.join(argv)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def nsenter(namespace: str, argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv` in a namespace, with the mounts of this process.

    `ip netns exec` would mount a fresh /sys, in which no bpffs of ours is visible.
    """
    return ["nsenter", f"--net={NETNS_DIR / namespace}", "--", *argv]


def build_topology(plan: Plan) -> None:
    """Create everything; on failure the caller removes what exists."""
    for namespace in plan.namespaces:
        run_tool(["ip", "netns", "add", namespace])
        _set_sysctls(namespace, _quick_addresses())
    for network in plan.networks:
        _batch(network.namespace, _bridge_commands(plan, network))
    for host in plan.hosts:
        _batch(host.namespace, _host_commands(host))
        _set_sysctls(host.namespace, _role_sysctls(host))
    for host in plan.hosts:
        for link in host.links:
            _set_offloads(host.namespace, link.device)
            _set_offloads(plan.network(link.network).namespace, host.name)


def namespaces_of(prefix: str) -> list[str]:
    """Return the existing namespaces of the lab with this prefix."""
    return sorted(path.name for path in NETNS_DIR.glob(f"{prefix}-*"))


def remove_namespaces(prefix: str) -> None:
    """Remove a lab's namespaces, and with them its links; missing ones are fine."""
    for namespace in namespaces_of(prefix):
        run_tool(["ip", "netns", "delete", namespace])


def cut(plan: Plan, host: Host, network: str | None = None, *, silent: bool = False) -> None:
    """Unplug a host from one network or all; silent = frames vanish, the carrier stays."""
    _change_ports(plan, host, network, "nomaster" if silent else "down")


def heal(plan: Plan, host: Host, network: str | None = None) -> None:
    """Undo `cut`; fine on a host that is not cut."""
    _change_ports(plan, host, network, f"master {_BRIDGE} up")


def _change_ports(plan: Plan, host: Host, network: str | None, change: str) -> None:
    links = [link for link in host.links if network in (None, link.network)]
    if not links:
        raise LabError(f"lab {plan.spec.name}: {host.name} is not on the {network} network")
    for link in links:
        _batch(plan.network(link.network).namespace, [f"link set dev {host.name} {change}"])


def _batch(namespace: str, commands: Sequence[str] | Iterator[str]) -> None:
    run_tool(["ip", "-n", namespace, "-batch", "-"], "\n".join(commands) + "\n")


def _bridge_commands(plan: Plan, network: Network) -> Iterator[str]:
    yield f"link add {_BRIDGE} type bridge mcast_snooping 0"
    yield f"link set {_BRIDGE} up"
    for host in plan.hosts:
        for link in host.links:
            if link.network == network.name:
                peer = f"peer name {link.device} netns {host.namespace}"
                yield f"link add {host.name} type veth {peer}"
                yield f"link set {host.name} master {_BRIDGE} up"


def _host_commands(host: Host) -> Iterator[str]:
    yield "link set lo up"
    for link in host.links:
        yield from _link_commands(link)
    for gateway in host.gateways:
        yield f"route add default via {gateway}"


def _link_commands(link: Link) -> Iterator[str]:
    for address in (*link.addresses, *link.vips):
        # Duplicate address detection would keep an IPv6 address unusable for a second.
        yield f"address add {address} dev {link.device}{' nodad' if address.version == 6 else ''}"
    yield f"link set {link.device} up"


def _quick_addresses() -> dict[str, str]:
    return {f"net/ipv6/conf/{scope}/accept_dad": "0" for scope in ("all", "default")}


def _role_sysctls(host: Host) -> dict[str, str]:
    if host.role is Role.BALANCER:
        # bpf_fib_lookup answers only on interfaces that forward.
        return {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
    if host.role is Role.ROUTER:
        # Flows are told apart by ports too, and a dead link takes its routes along.
        return {
            "net/ipv4/ip_forward": "1",
            "net/ipv6/conf/all/forwarding": "1",
            "net/ipv4/fib_multipath_hash_policy": "1",
            "net/ipv6/fib_multipath_hash_policy": "1",
            "net/ipv4/conf/all/ignore_routes_with_linkdown": "1",
            "net/ipv6/conf/all/ignore_routes_with_linkdown": "1",
        }
    if host.role is Role.CLIENT:
        # One client stands for many: closed connections must not use up its ports.
        return {"net/ipv4/ip_local_port_range": "10000 65000"}
    return {}


def _set_sysctls(namespace: str, values: dict[str, str]) -> None:
    for name, value in values.items():
        path = Path("/proc/sys") / name
        if path.exists():
            run_tool(nsenter(namespace, ["tee", str(path)]), value)


def _set_offloads(namespace: str, device: str) -> None:
    # Frames that XDP sends through a veth reach its peer only with GRO on, and a checksum
    # left for the network card to compute would be wrong once XDP has rewritten the packet.
    run_tool(nsenter(namespace, ["ethtool", "-K", device, "tx", "off", "gro", "on"]))
