# SPDX-License-Identifier: Apache-2.0
"""The host of a lab that runs etcd, over which balancers may talk."""

from __future__ import annotations

import shutil

from galelb.errors import EnvironmentProblem
from galelb.lab.hosts import Host, Plan, Role

__all__ = ["etcd_command", "etcd_url"]

_PORT = 2379


def etcd_url(plan: Plan) -> str:
    """Return where balancers reach etcd."""
    (host,) = plan.of(Role.ETCD)
    return _url(host)


def etcd_command(host: Host) -> list[str]:
    """Return what runs etcd on its host. Raises EnvironmentProblem without etcd."""
    program = shutil.which("etcd")
    if program is None:
        raise EnvironmentProblem("etcd is not installed: apt-get install etcd-server")
    url, alone = _url(host), "http://127.0.0.1:2380"
    return [
        program,
        *("--data-dir", str(host.directory / f"{host.name}.data")),
        *("--listen-client-urls", url),
        *("--advertise-client-urls", url),
        *("--listen-peer-urls", alone),
        *("--initial-advertise-peer-urls", alone),
        *("--initial-cluster", f"default={alone}"),
        *("--logger", "zap", "--log-outputs", "stderr", "--log-level", "warn"),
    ]


def _url(host: Host) -> str:
    address = host.links[0].addresses[0].ip
    return f"http://{f'[{address}]' if address.version == 6 else address}:{_PORT}"
