# SPDX-License-Identifier: Apache-2.0
"""Members of a group over real nodes' desks and a network in memory, in virtual time."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path

import trio

from galelb.config import BalancerConfig
from galelb.control.nodes import NodeDesk
from galelb.group.desk import GroupDesk
from galelb.group.identity import identify
from galelb.group.member import GroupMember
from galelb.health import HealthSettings, NodeHealth
from galelb.model import HealthReport, HealthStatus
from galelb.plugins import Plugins
from galelb.testing.fake_transport import FakeNetwork, FakeTransport
from galelb.transport import TransportContext

TIMEOUT_S = 5.0
NAMES = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5")


def config(size: int, *, timeout_s: float = TIMEOUT_S, enforce: bool = False, **sections):
    """Return the configuration of each balancer of a group."""
    data = {
        "private_interface": {"net_interface_private": "eth0"},
        "public_interface": {"net_interface_public": "eth1"},
        "load_balancer_quorum": {
            "addresses": [{"ip": name} for name in NAMES[:size]],
            "enforce_single_configuration": enforce,
        },
        "node_health": {"checks_timeout": f"{timeout_s:g}s"},
    }
    return BalancerConfig.model_validate_json(json.dumps(data | sections))


class Balancer:
    """One member with its nodes; `start` it in a nursery."""

    def __init__(self, network, name, config, *plugins, health=(), decisions=None, rules=None):
        self.name, self.config, self.rules = name, config, rules
        timeout_s = config.node_health.checks_timeout
        settings = HealthSettings(checks_before_routing=1, checks_timeout=timeout_s)
        self.plugins = Plugins.discover(load_entry_points=False, extra=plugins)
        self.joined, self.left = [], []
        self.health = NodeHealth(settings, max_nodes=3583)
        self.desk = NodeDesk(
            self.health,
            self.plugins,
            on_change=lambda: None,
            on_join=self.joined.append,
            on_leave=self.left.append,
        )
        self.health.restore(health, trio.current_time())
        self.health.take_changes()
        identity = identify(config, [ip_address(name)])
        self.transport = FakeTransport(
            network,
            TransportContext(
                name=identity.name,
                address=identity.address,
                port=identity.port,
                peers=identity.peers,
                directory=Path(),
                peer_changed=lambda peer: self.member.peer_changed(peer),
                record_changed=lambda *record: self.member.record_changed(*record),
            ),
        )
        self.concluded = 0
        self.member = GroupMember(
            config,
            identity,
            GroupDesk(self.desk),
            version="1",
            decisions=decisions or {},
            write=self.transport.write,
            changed=self._concluded,
            told=self.plugins.peer_changed,
            merge=self.plugins.merge_record,
        )
        self.plugins.watch(self.member, "group")
        self.scope = trio.CancelScope()

    def _concluded(self):
        self.concluded += 1

    async def run(self, *, task_status):
        """Work until `stop`."""
        with self.scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.desk.run)
                await nursery.start(self.transport.run)
                await nursery.start(self.member.run)
                task_status.started()

    def stop(self):
        """Die at once."""
        self.scope.cancel()

    def report(self, node, status=HealthStatus.SERVING, **facts):
        """Have a node report to this balancer."""
        self.desk.report(
            HealthReport(source="test", address=ip_address(node), status=status, **facts)
        )

    def decide(self, node, *, draining, weight=None):
        """Do what the API does for an operator."""
        address = ip_address(node)
        self.health.drain(address, draining, trio.current_time())
        self.health.set_weight(address, weight, trio.current_time())
        self.desk.settle()
        self.member.decide(address, draining=draining, weight=weight)

    def node(self, node):
        """Return its record, None if it is unknown here."""
        return self.health.get(ip_address(node))

    def routable(self):
        """Return the nodes that may get packets."""
        return {str(one.node.address) for one in self.health.records() if one.routable}


async def group(nursery, *configs, network=None):
    """Return a network and running balancers with these configurations, who know each other."""
    network = network or FakeNetwork()
    balancers = [Balancer(network, name, one) for name, one in zip(NAMES, configs, strict=False)]
    for balancer in balancers:
        await nursery.start(balancer.run)
    await trio.sleep(0.5)
    return network, balancers
