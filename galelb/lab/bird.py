# SPDX-License-Identifier: Apache-2.0
"""Configuration files of bird, which speaks BGP on the router and the balancers of a lab."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

from galelb.errors import EnvironmentProblem
from galelb.lab.hosts import PUBLIC, Host, Plan, Role

__all__ = ["announced_file", "balancer_bird", "bird_command", "control_socket", "router_bird"]

_ROUTER_AS, _BALANCERS_AS = 65000, 65001

_IS_VIP = "source = RTS_DEVICE && preference = 250"
"""What announce_bgp makes of VIPs, and of nothing else."""

# Detection within 0.8 s; BGP's own hold time cannot be under 3 s, and a bridge between the two
# machines keeps the carrier when one of them is unplugged.
_BFD = """\
protocol bfd {
    interface "*" { interval 200 ms; multiplier 4; };
}
"""
_TIMES = """\
    hold time 9;
    keepalive time 3;
    connect delay time 0;
    connect retry time 1;
    error wait time 1, 2;
    bfd on;
"""


def bird_command(host: Host) -> list[str]:
    """Return what runs bird on a host. Raises EnvironmentProblem without bird."""
    # Root's path may lack sbin, where Debian has it.
    program = shutil.which("bird") or shutil.which("bird", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise EnvironmentProblem("bird is not installed: apt-get install bird2")
    return [program, "-f", "-c", str(_config(host)), "-s", str(control_socket(host))]


def control_socket(host: Host) -> Path:
    """Return where the host's bird is controlled."""
    return host.directory / f"{host.name}.bird.ctl"


def announced_file(host: Host) -> Path:
    """Return the file that a balancer writes and its bird includes."""
    return host.directory / f"{host.name}.vips.conf"


def _config(host: Host) -> Path:
    return host.directory / f"{host.name}.bird.conf"


def router_bird(plan: Plan, router: Host) -> dict[Path, str]:
    """Return the router's files: it learns VIPs from balancers and spreads flows over them."""
    families = tuple(address.version for address in router.addresses(PUBLIC))
    lines = [f"router id {_router_id(router)};", "log stderr all;", "protocol device { }", _BFD]
    lines += [_kernel(version) for version in families]
    for balancer in plan.of(Role.BALANCER):
        lines += _sessions(router, balancer, _ROUTER_AS, _BALANCERS_AS, "import all; export none;")
    return {_config(router): "\n".join(lines)}


def balancer_bird(plan: Plan, balancer: Host) -> dict[Path, str]:
    """Return a balancer's files: its bird tells the router what the balancer announces."""
    (router,) = plan.of(Role.ROUTER)
    lines = [
        f"router id {_router_id(balancer)};",
        "log stderr all;",
        "protocol device { scan time 1; }",
        _BFD,
        f'include "{announced_file(balancer)}";',
        *_sessions(
            balancer, router, _BALANCERS_AS, _ROUTER_AS, f"import none; export where {_IS_VIP};"
        ),
    ]
    # The balancer writes the second file; bird would not start without it.
    return {_config(balancer): "\n".join(lines), announced_file(balancer): ""}


def _kernel(version: int) -> str:
    return (
        f"protocol kernel {{ merge paths on; "
        f"ipv{version} {{ import none; export where source = RTS_BGP; }}; }}"
    )


def _sessions(here: Host, there: Host, own_as: int, other_as: int, routes: str) -> Iterator[str]:
    """Yield one session for each family: the next hops are of the family of the routes."""
    pairs = zip(here.addresses(PUBLIC), there.addresses(PUBLIC), strict=True)
    for own, other in pairs:
        yield (
            f"protocol bgp {there.name}_v{own.version} {{\n"
            f"    local {own.ip} as {own_as};\n"
            f"    neighbor {other.ip} as {other_as};\n"
            f"{_TIMES}"
            f"    ipv{own.version} {{ {routes} next hop self; }};\n"
            "}"
        )


def _router_id(host: Host) -> IPv4Address:
    """Return a number that is unique among them; it looks like an address and need not be one."""
    last = int(str(host.addresses(PUBLIC)[0].ip).rpartition(":")[2].rpartition(".")[2])
    return IPv4Address("203.0.113.0") + last
