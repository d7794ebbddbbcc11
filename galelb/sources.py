# SPDX-License-Identifier: Apache-2.0
"""Base classes of more plugin kinds: schedulers, health sources, background services."""

from __future__ import annotations

import abc
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from galelb.errors import GaleError
from galelb.forwarder import Options
from galelb.grpc.signal import Signal
from galelb.model import HealthReport, IPAddress, NextHop, NodeRecord, NodeSetup, Service

if TYPE_CHECKING:
    import trio

    from galelb.config import BalancerConfig

__all__ = [
    "BackgroundService",
    "BalancerContext",
    "HealthSource",
    "Reach",
    "Scheduler",
    "VipWay",
]


class Reach(enum.Enum):
    """How a node gets the packets of a service."""

    NEVER = "never"
    """It does not serve it."""
    ADDRESS = "address"
    """They are sent to its own address."""
    VIP = "vip"
    """They keep the VIP as their destination, which the node holds."""
    UNSEEN = "unseen"
    """The same, but all addresses of ours that a node could answer to are VIPs themselves."""


@attrs.frozen(kw_only=True)
class VipWay:
    """How packets to a VIP reach one very node past this machine's kernel, which owns the VIP."""

    source: IPAddress
    """An address of the balancer's, of the VIP's family, that the node can answer to."""
    hop: NextHop
    wrap: Callable[[bytes], bytes]
    """Returns an IP packet to the VIP with the headers that its forwarder puts before it."""


def _no_way(service: Service, node: IPAddress) -> VipWay:
    raise GaleError(f"there is no way to {service.vip} on {node}")


@attrs.frozen(kw_only=True)
class BalancerContext:
    """What the core lends to a component plugin of a balancer."""

    config: BalancerConfig
    private_addresses: tuple[IPAddress, ...]
    report: Callable[[HealthReport], NodeRecord]
    """Hand a report to the core; answers with the node as the balancer now sees it."""
    node_gone: Callable[[str, IPAddress, str], None]
    """(source, address, reason): the source lost the node, for example its stream closed."""
    nodes: Callable[[], Sequence[NodeRecord]]
    node_setups: Callable[[], Sequence[NodeSetup]] = tuple
    """What nodes must be set up for at present, for sources that can tell them."""
    services: Callable[[], Sequence[Service]] = tuple
    """What is served at present."""
    serving: Callable[[], Mapping[str, bool]] = dict
    """Whether each service by name has a node; "" = whether the balancer is ready as a whole."""
    reach: Callable[[Service, IPAddress], Reach] = lambda *_: Reach.ADDRESS
    """How the node at this address gets a service's packets."""
    vip_way: Callable[[Service, IPAddress], VipWay] = _no_way
    """How to reach a service's VIP on this very node, where that is how it gets packets.
    Raises GaleError, which says why, when there is no way at present."""
    changed: Signal = attrs.Factory(Signal)
    """Notified after nodes, services or tables have changed."""


class Scheduler(abc.ABC):
    """Builds lookup tables; pure, the same on every balancer."""

    name: ClassVar[str]
    Options: ClassVar[type[Options]] = Options

    def __init__(self, options: Any) -> None:
        self.options = options

    @abc.abstractmethod
    def build(self, nodes: Sequence[tuple[str, float]], size: int, seed: int) -> list[int]:
        """Return `size` slots, each a position in `nodes` ((address, weight > 0) pairs).

        Weights are whole unless a node is starting slowly, or has less because it is busy. What
        a slot names should depend on other nodes' weights as little as can be: every change of
        one moves flows. The order of `nodes` must not matter for which address a slot names.
        Runs in a worker thread.
        """


class _ComponentPlugin(abc.ABC):
    """A plugin that is a component of the balancer."""

    name: ClassVar[str]
    Options: ClassVar[type[Options]] = Options

    def __init__(self, options: Any, context: BalancerContext) -> None:
        self.options = options
        self.context = context

    @abc.abstractmethod
    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Call `task_status.started()` when ready, then work until cancelled."""


class HealthSource(_ComponentPlugin):
    """Learns whether nodes are healthy and hands reports to the core.

    A source either brings nodes, which report to it, or checks nodes that are known already.
    """

    checks: ClassVar[bool] = False
    """Whether it looks at nodes itself. Then its reports can only bar a node, they stand until
    the next one, and a new node waits for the first: every node needs a report of it soon, or a
    `node_gone`, which says that there is nothing to check."""

    def notes(self) -> list[str]:
        """Return what `galelb status` should say, one sentence each; must not block."""
        return []

    def reload(self, options: Any, config: BalancerConfig) -> None:
        """Go on with other settings, after a reload of the configuration; must not block."""
        del config
        self.options = options


class BackgroundService(_ComponentPlugin):
    """Anything else that runs beside the balancer: exporters, other APIs."""
