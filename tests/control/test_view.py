# SPDX-License-Identifier: Apache-2.0
"""What the API sees of a balancer: real parts, with maps that exist only here."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families

from galelb.abi import Reason
from galelb.api.exposition import exposition
from galelb.api.view import GroupStatus, InterfaceStatus, PeerStatus
from galelb.config import BalancerConfig
from galelb.control import metric_families as family
from galelb.control.chronicle import Chronicle
from galelb.control.controller import Controller, Served
from galelb.control.identity import Numbering
from galelb.control.lag import LoopLag
from galelb.control.metric_families import FAMILIES
from galelb.control.nodes import NodeDesk
from galelb.control.view import RunningView
from galelb.control.work import Work
from galelb.datapath.carrying import Carried
from galelb.errors import MapError
from galelb.forwarder import Forwarder, HostView, Options
from galelb.group.report import metrics
from galelb.group.state import GroupState, Holdings
from galelb.group.words import About
from galelb.health import HealthSettings, NodeHealth
from galelb.model import (
    HealthReport,
    HealthStatus,
    Interface,
    IPAddress,
    Metric,
    NextHop,
    Node,
    Peer,
    Protocol,
    Service,
    XdpMode,
)
from galelb.plugins import Plugins
from galelb.resolve.next_hops import NextHopTable
from galelb.tables import slots_needed
from galelb.tables.keeper import TableKeeper, TableSettings
from galelb.testing.fake_maps import FakeMap
from galelb.testing.metrics_lint import lint_metrics

SIZE = 251
MAC = "02:00:00:00:00:0a"
A, B = ip_address("10.1.0.11"), ip_address("10.1.0.12")
WEB = Service(
    name="web",
    vip=ip_address("192.0.2.1"),
    port=80,
    protocol=Protocol.TCP,
    target_port=80,
    forwarder="fake",
)
INTERFACES = (
    InterfaceStatus(name="eth0", role="private", mode=XdpMode.NATIVE, ifindex=2),
    InterfaceStatus(name="eth1", role="public", mode=None, reason="gone"),
)


class FakeForwarder(Forwarder):
    name = "fake"

    def flow_count(self) -> int:
        return 7

    def notes(self, services: Sequence[Service], host: HostView) -> list[str]:
        return [f"{one.name} by an interface of mtu {host.private.mtu}" for one in services]


class FakeMembership:
    """A place in a group, and what operators decided."""

    def __init__(self) -> None:
        self.decisions: list[tuple[IPAddress, bool, int | None]] = []

    def status(self) -> GroupStatus:
        return GroupStatus(
            name="lb1",
            transport="gossip",
            standing="quorate",
            alive=2,
            configured=3,
            ready=True,
            config_digest="",
            tables_digest="",
        )

    def peers(self) -> tuple[PeerStatus, ...]:
        return (PeerStatus(peer=Peer(address=A, port=9090, alive=True, name="lb2")),)

    def notes(self) -> list[str]:
        return ["one of the group is missing"]

    def metrics(self) -> list[Metric]:
        about = About(version="1", config="", tables="", ready=True, sharing_port=1)
        state = GroupState(
            "lb1",
            3,
            timeout_s=1.0,
            about=about,
            settings={},
            enforce=False,
            write=lambda *_: None,
        )
        shared = [
            family.COPY_LAG.sample(0, "lb2"),
            family.COPY_BEHIND.sample(0, "lb2"),
            family.COPY_COMPLETE.sample(1, "lb2"),
            family.SHARED_FLOWS.sample(7, "added"),
            family.SHARED_BYTES.sample(700),
            family.SHARING_REFUSED.sample(1, "unreadable"),
        ]
        return metrics(state, SimpleNamespace(holdings=Holdings())) + shared  # type: ignore[arg-type]

    def decide(self, address: IPAddress, *, draining: bool, weight: int | None) -> None:
        self.decisions.append((address, draining, weight))


class Secretive(Options):
    token: str = ""


def maps() -> dict[str, Any]:
    names = ("services", "nodes", "next_hops", "next_hop_index", "node_addresses", "node_stats")
    fakes = {f"gale_{name}": FakeMap(f"gale_{name}", 16) for name in names}
    fakes["gale_slots"] = FakeMap("gale_slots", slots_needed(SIZE, 4), leaf_size=8)
    fakes["gale_node_filter"] = FakeMap("gale_node_filter", 4096)
    stats = fakes["gale_service_stats"] = FakeMap("gale_service_stats", 1000)
    width = max(Reason) + 1
    for reason in (Reason.FORWARDED, Reason.NO_NODE):
        # As the kernel gives per-CPU values.
        stats.update([(width + reason, [{"packets": 2, "bytes": 200}, {"packets": 1, "bytes": 9}])])
    stats.update([(int(Reason.PASS_FOREIGN), [{"packets": 5, "bytes": 300}])])
    return fakes


def config() -> BalancerConfig:
    plain = BalancerConfig.model_validate(
        {
            "private_interface": {"net_interface_private": "eth0"},
            "public_interface": {"net_interface_public": "eth1"},
            "load_balancer_quorum": {"addresses": ({"ip": "10.1.0.2"}, {"ip": "fd00::2"})},
        },
        strict=False,
    )
    return plain.model_copy(update={"plugins": {"x": Secretive(token="hush")}})


@pytest.fixture
async def view() -> RunningView:
    """A balancer that serves one service with a node that is up and one that is not."""
    plugins = Plugins()
    health = NodeHealth(HealthSettings())
    chronicle = Chronicle(lambda node: health.get(node) is not None)
    chronicle.flows_carried(Carried(forwarder="fake", added=2, waiting=1), "")
    plugins.watch(chronicle, "chronicle")
    desk = NodeDesk(
        health,
        plugins,
        on_change=lambda: None,
        on_join=lambda node: None,
        on_leave=lambda node: None,
    )
    fakes = maps()
    tables = TableKeeper(plugins, TableSettings(size=SIZE, seed=0))
    tables.use(fakes["gale_slots"], {})
    controller = Controller(
        health=health, nodes=Numbering("node", 15), next_hops=NextHopTable(16), tables=tables
    )
    desk.add_static(Node(address=A, name="web-1"))
    desk.neighbour(A, MAC)
    desk.report(HealthReport(source="health_grpc", address=B, status=HealthStatus.SERVING))
    controller.next_hops.set_node(A, NextHop(ifindex=2, dst_mac=MAC, src_mac=MAC, mtu=1500))
    interface = Interface(name="eth0", ifindex=2, mac=MAC, mtu=1500)
    host = HostView(
        private=interface,
        public=interface,
        ip_local_port_range=(32768, 60999),
        tick_shift=8,
        hz=250,
        flow_seed=1,
    )
    forwarders: dict[str, Forwarder] = {"fake": FakeForwarder(None)}
    await controller.serve(Served(services={1: WEB}, forwarders=forwarders, host=host, maps=fakes))
    return RunningView(
        config=config(),
        plugin_set=plugins,
        controller=controller,
        datapath=SimpleNamespace(),  # type: ignore[arg-type]
        interfaces=lambda: INTERFACES,
        changed=desk.settle,
        version="1.2.3",
        recorder=SimpleNamespace(capturing=False),  # type: ignore[arg-type]
        work=Work(chronicle=chronicle, lag=LoopLag(), report_times=desk.report_times),
        membership=FakeMembership(),
    )


async def samples(view: RunningView) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return (labels, value) of the page of metrics, by name of the sample."""
    page = exposition(await view.metrics()).decode()
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for one in text_string_to_metric_families(page):
        for sample in one.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


async def test_notes_of_forwarders_are_those_of_what_is_served_now(view: RunningView) -> None:
    before = (await view.status()).notes
    served = view.controller.served
    host = attrs.evolve(served.host, private=attrs.evolve(served.host.private, mtu=9000))
    await view.controller.serve(attrs.evolve(served, host=host))

    assert "web by an interface of mtu 1500" in before
    assert "web by an interface of mtu 9000" in (await view.status()).notes


async def test_metrics_follow_the_conventions(view: RunningView) -> None:
    page = exposition(await view.metrics()).decode()

    assert [] == lint_metrics(page)


async def test_every_metric_is_on_the_page_with_its_labels(view: RunningView) -> None:
    page = exposition(await view.metrics()).decode()
    shown = {
        one.name: {label for sample in one.samples for label in sample.labels}
        for one in text_string_to_metric_families(page)
    }

    assert {
        one.name.removesuffix("_total"): {*one.labels, *histogram_label(one.kind)}
        for one in FAMILIES
    } == {name: labels for name, labels in shown.items() if name.startswith("galelb_")}
    assert {"process_cpu_seconds", "process_open_fds"} <= shown.keys()


def histogram_label(kind: str) -> tuple[str, ...]:
    return ("le",) if kind == "histogram" else ()


async def test_what_became_of_packets_is_told_by_reason(view: RunningView) -> None:
    assert [
        ({"service": "", "reason": "pass_foreign", "outcome": "passed"}, 5),
        ({"service": "web", "reason": "forwarded", "outcome": "forwarded"}, 3),
        ({"service": "web", "reason": "no_node", "outcome": "dropped"}, 3),
    ] == (await samples(view))["galelb_packets_total"]


async def test_nodes_and_tables_are_told(view: RunningView) -> None:
    found = await samples(view)

    up, other = {"node": str(A)}, {"node": str(B)}
    assert [(up, 1), (other, 0)] == found["galelb_node_takes_new_flows"]
    assert [(up, 1), (other, 0)] == found["galelb_node_weight"]
    assert ({**other, "state": "probation"}, 1) in found["galelb_node_state"]
    assert [({"service": "web"}, SIZE)] == found["galelb_lookup_table_slots"]
    assert [({"scheduler": "maglev"}, 1)] == found[
        "galelb_lookup_table_build_duration_seconds_count"
    ]
    assert [({"source": "health_grpc"}, 1)] == found["galelb_health_report_duration_seconds_count"]
    assert [({"forwarder": "fake"}, 7)] == found["galelb_flows"]
    assert [{"peer": "10.1.0.11:9090"}] == [labels for labels, _ in found["galelb_peer_alive"]]


async def test_how_long_changes_take_is_told_and_how_often_they_fail(
    view: RunningView, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = view.controller
    async with trio.open_nursery() as nursery:
        await nursery.start(controller.run)
        controller.wake()
        await trio.testing.wait_all_tasks_blocked()
        while controller.plans < 2:
            await trio.sleep(0)

        def full(*_: object) -> None:
            raise MapError("gale_nodes", "set", "the map is full")

        monkeypatch.setattr(type(controller._writing), "nodes", full)
        controller.wake()
        while not controller.plan_failures:
            await trio.sleep(0)
        nursery.cancel_scope.cancel()

    found = await samples(view)
    assert ([({}, 1)], [({}, 1)]) == (
        found["galelb_plan_duration_seconds_count"],
        found["galelb_plan_failures_total"],
    )


async def test_a_refused_configuration_is_told_until_a_good_one_comes(view: RunningView) -> None:
    chronicle = view.work.chronicle

    chronicle.not_reloaded("nonsense")
    refused = (await samples(view))["galelb_config_last_reload_successful"]
    chronicle.reloaded("abc")
    mended = (await samples(view))["galelb_config_last_reload_successful"]

    assert ([({}, 0)], [({}, 1)]) == (refused, mended)


async def test_the_configuration_is_shown_without_secrets(view: RunningView) -> None:
    shown = await view.configuration()

    assert {"token": "***"} == shown.settings["plugins"]["x"]
    assert "hush" not in repr(shown)
    assert "eth1" == shown.settings["public_interface"]["net_interface_public"]
    assert "[private_interface]\n" in shown.toml


async def test_what_happens_to_nodes_is_their_history(view: RunningView) -> None:
    await view.drain(A, on=True)
    await view.set_weight(A, 5)
    view.controller.health.remove(A, trio.current_time())
    view.changed()

    history = [(event.kind, event.facts["draining"]) for event in view.events.of_node(str(A))]
    assert [
        ("node_joined", False),
        ("node_neighbour", False),
        ("node_draining", True),
        ("node_weight", True),
        ("node_left", True),
    ] == history
    assert ["node_joined"] == [event.kind for event in view.events.of_node(str(B))]
    last = view.events.of_node(str(A))[-1]
    assert ("routable", "down", "removed") == (
        last.facts["old_state"],
        last.facts["state"],
        last.facts["reason"],
    )


async def test_the_lag_is_in_the_status(view: RunningView) -> None:
    assert view.work.lag.worst == (await view.status()).event_loop_lag_s


async def test_the_group_hears_of_what_operators_want(view: RunningView) -> None:
    await view.drain(A, on=True)
    await view.set_weight(A, 5)

    assert isinstance(view.membership, FakeMembership)
    assert [(A, True, None), (A, True, 5)] == view.membership.decisions


async def test_the_group_has_its_say_in_the_status(view: RunningView) -> None:
    assert "one of the group is missing" == (await view.status()).notes[0]
    assert ["lb2"] == [one.peer.name for one in await view.peers()]

    view.membership = None

    assert await view.group() is None
    assert ["10.1.0.2", "fd00::2"] == [str(one.peer.address) for one in await view.peers()]


async def test_what_an_operator_is_told_to_be_done_is_saved(view: RunningView) -> None:
    saved = []

    async def save() -> None:
        await trio.lowlevel.checkpoint()
        saved.append(view.controller.health.get(A))

    view.remember = save
    await view.drain(A, on=True)
    await view.set_weight(A, 5)

    found = [(one.operator_draining, one.operator_weight) for one in saved if one]
    assert [(True, None), (True, 5)] == found
