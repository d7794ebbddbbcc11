# SPDX-License-Identifier: Apache-2.0
"""Whether a change needs other programs: by the text that would be compiled."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from galelb.bpf.pipeline import Pipeline, pipeline
from galelb.datapath.limits import limits_for
from galelb.forwarder import HostView
from galelb.model import Interface
from galelb.plugins.blame import blamed
from galelb.services import service_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from galelb.plan.values import Side
    from galelb.plugins import Plugins

__all__ = ["recompiles"]

_SOME_MACHINE = Interface(
    name="some",
    ifindex=1,
    mac="02:00:00:00:00:01",
    mtu=1500,
    addresses=(ip_address("10.255.255.1"), ip_address("fd00::ffff:1")),
)
_HOST = HostView(
    private=_SOME_MACHINE,
    public=_SOME_MACHINE,
    ip_local_port_range=(32768, 60999),
    tick_shift=8,
    hz=250,
    flow_seed=0,
)
"""The machine is the same before and after, so any will do."""


def recompiles(old: Side, new: Side, plugins: Plugins) -> bool:
    """Return whether the programs of the two sides differ. Raises GaleError."""
    ids = _numbered(old, new)
    return _text(old, ids, plugins) != _text(new, ids, plugins)


def _numbered(old: Side, new: Side) -> Mapping[str, int]:
    """Return ids for all services; one that stays keeps its own, as in a running balancer."""
    ids = dict(old.ids)
    free = (number for number in range(1, 1 << 16) if number not in set(old.ids.values()))
    for service in (*old.services, *new.services):
        key = service_key(service)
        if key not in ids:
            ids[key] = next(free)
    return ids


def _text(side: Side, ids: Mapping[str, int], plugins: Plugins) -> Pipeline:
    services = {ids[service_key(service)]: service for service in side.services}
    forwarders = []
    for name in sorted({service.forwarder for service in side.services}):
        with blamed(name, "plan"):
            forwarders.append(plugins.forwarder(name)(side.config.plugins[name]))
    forwarding = side.config.forwarding
    return pipeline(
        services=dict(sorted(services.items())),
        forwarders=forwarders,
        host=_HOST,
        limits=limits_for(services, forwarding.table_size),
        table_seed=forwarding.table_seed,
    )
