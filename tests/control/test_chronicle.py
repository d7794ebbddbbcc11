# SPDX-License-Identifier: Apache-2.0
"""What becomes an event, told by the hooks that plugins have, too."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import attrs
import pytest

from galelb.control.chronicle import LONGEST_REASON, Chronicle
from galelb.datapath.carrying import Carried
from galelb.model import Node, NodeRecord, NodeState, Peer, Protocol, Service, XdpMode
from galelb.plugins import Plugins

A = ip_address("10.0.0.11")
WEB = Service(
    name="web",
    vip=ip_address("192.0.2.1"),
    port=80,
    protocol=Protocol.TCP,
    target_port=80,
    forwarder="l4_nat",
)
UP = NodeRecord(node=Node(address=A, name="web-1"), state=NodeState.ROUTABLE, neighbour="02:0")


@pytest.fixture
def plugins() -> Plugins:
    return Plugins()


@pytest.fixture
def chronicle(plugins: Plugins) -> Chronicle:
    chronicle = Chronicle(lambda node: node == A)
    plugins.watch(chronicle, "chronicle")
    return chronicle


def told(chronicle: Chronicle) -> list[tuple[str, dict[str, Any]]]:
    return [(event.kind, dict(event.facts)) for event in chronicle.events.last(100)]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"state": NodeState.DOWN, "draining": True}, "node_state"),
        ({"draining": True, "operator_weight": 5}, "node_draining"),
        ({"operator_weight": 5, "neighbour": None}, "node_weight"),
        ({"load_share": 60}, "node_weight"),
        ({"neighbour": None, "failures": 1}, "node_neighbour"),
    ],
)
def test_the_most_important_change_of_a_node_names_the_event(
    plugins: Plugins, chronicle: Chronicle, changes: dict[str, Any], kind: str
) -> None:
    new = attrs.evolve(UP, **changes)

    plugins.node_changed(UP, new)

    ((found, facts),) = told(chronicle)
    assert kind == found
    assert (str(A), "web-1", "routable", new.state.value, new.draining, new.neighbour) == (
        facts["node"],
        facts["name"],
        facts["old_state"],
        facts["state"],
        facts["draining"],
        facts["neighbour"],
    )


def test_what_only_counts_is_no_event(plugins: Plugins, chronicle: Chronicle) -> None:
    plugins.node_changed(UP, attrs.evolve(UP, reports=2, failures=1))

    assert [] == told(chronicle)


def test_nodes_come_and_go(plugins: Plugins, chronicle: Chronicle) -> None:
    other = attrs.evolve(UP, node=Node(address=ip_address("10.0.0.12")), reason="removed")
    plugins.node_changed(None, UP)
    plugins.node_changed(UP, attrs.evolve(other, state=NodeState.DOWN))

    assert ["node_joined", "node_left"] == [kind for kind, _ in told(chronicle)]
    assert ["node_left"] == [event.kind for event in chronicle.events.of_node("10.0.0.12")]


@pytest.mark.parametrize(
    ("happen", "event"),
    [
        (
            lambda plugins: plugins.table_changed(WEB, "abc", 0.33333),
            ("table_changed", {"service": "web", "digest": "abc", "moved_share": 0.3333}),
        ),
        (
            lambda plugins: plugins.peer_changed(None, Peer(address=A, port=9, alive=True)),
            ("peer_changed", {"peer": "10.0.0.11", "port": 9, "alive": True}),
        ),
        (
            lambda plugins: plugins.attached("eth0", XdpMode.TC),
            ("attached", {"interface": "eth0", "mode": "tc"}),
        ),
        (lambda plugins: plugins.detached("eth0"), ("detached", {"interface": "eth0"})),
        (lambda plugins: plugins.stopping(), ("stopping", {})),
    ],
)
def test_hooks_become_events(
    plugins: Plugins,
    chronicle: Chronicle,
    happen: Callable[[Plugins], None],
    event: tuple[str, dict[str, Any]],
) -> None:
    happen(plugins)

    assert [event] == told(chronicle)


async def test_the_end_of_the_balancer_ends_streams(plugins: Plugins, chronicle: Chronicle) -> None:
    with chronicle.events.subscribe() as subscription:
        plugins.stopping()
        kinds = [event.kind if (event := await subscription.next()) else None for _ in range(2)]

    assert ["stopping", None] == kinds


def test_a_file_full_of_problems_does_not_fill_the_memory(chronicle: Chronicle) -> None:
    chronicle.not_reloaded("x" * 1_000_000)

    assert [("config_refused", {"reason": "x" * LONGEST_REASON})] == told(chronicle)


def test_it_is_no_plugin(plugins: Plugins, chronicle: Chronicle) -> None:
    assert "chronicle" not in {info.name for info in plugins.infos()}


def test_flows_that_went_to_other_tables_are_events_and_counted(chronicle: Chronicle) -> None:
    chronicle.flows_carried(Carried(forwarder="l4_nat", added=5, refused=2, waiting=1), "")
    chronicle.flows_carried(Carried(forwarder="l4_nat", added=1), "")
    chronicle.flows_carried(Carried(forwarder="l4_nat"), "another format")

    facts = {"forwarder": "l4_nat", "added": 5, "refused": 2, "waiting": 1}
    assert ("flows_carried", facts) == told(chronicle)[0]
    lost = ("flows_lost", {"forwarder": "l4_nat", "reason": "another format"})
    assert lost == told(chronicle)[-1]
    assert {"added": 6, "refused": 2, "waiting": 1, "failed": 1} == {
        result: count for (_, result), count in chronicle.carried.items()
    }
