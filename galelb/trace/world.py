# SPDX-License-Identifier: Apache-2.0
"""Where a trace runs: programs over filled maps, and the way into their network namespace."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from galelb.datapath.machine import cache_folder
from galelb.datapath.programs import Generation, KernelDataPath, LoadRequest
from galelb.trace.tracer import Run
from galelb.trace.values import Place

if TYPE_CHECKING:
    from galelb.config import BalancerConfig
    from galelb.datapath.sandbox import Sandbox
    from galelb.model import Interface, IPAddress, Service

__all__ = ["World", "load", "place", "sides"]


@attrs.frozen(kw_only=True)
class World:
    """Programs over filled maps, and where they run; `notes` are lines for people."""

    generation: Generation
    place: Place
    run: Run
    notes: Sequence[str] = ()


def sides(config: BalancerConfig) -> tuple[str, str]:
    """Return the names of the private and the public interface, which may be one."""
    private = config.private_interface.net_interface_private
    return private, config.public_interface.net_interface_public


def load(
    stack: contextlib.ExitStack, sandbox: Sandbox, request: LoadRequest, *, large: bool
) -> Generation:
    """Load the programs of a request for a trace, over empty maps; closed by `stack`.

    `large`: frames of several pages come, which programs must declare to be fine with.
    """
    datapath = KernelDataPath(sandbox.pins, None, cache_folder())
    stack.callback(datapath.close)
    generation = datapath.load(attrs.evolve(request, trace=True, tc=False, frags=large))
    datapath.use(generation)
    return generation


def place(
    config: BalancerConfig,
    present: Mapping[str, Interface],
    services: Mapping[int, Service],
    nodes: Mapping[IPAddress, int],
    client_mac: str,
) -> Place:
    """Return the place that a configuration's interfaces are."""
    private, public = sides(config)
    return Place(
        public=present[public],
        private=present[private],
        extra=[present[name] for name in config.forwarding.extra_interfaces if name in present],
        nodes=nodes,
        services=services,
        client_mac=client_mac,
        table_size=config.forwarding.table_size,
    )
