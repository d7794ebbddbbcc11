# SPDX-License-Identifier: Apache-2.0
"""Every hook, called through `Plugins` the way the core calls it."""

from ipaddress import ip_address
from pathlib import Path

import attrs
import click
import pytest

from galelb.announcer import Announcer
from galelb.errors import PluginError
from galelb.forwarder import Forwarder
from galelb.hooks import hookimpl
from galelb.model import (
    HealthReport,
    HealthStatus,
    Metric,
    Node,
    NodeRecord,
    NodeState,
    Peer,
    Protocol,
    Service,
    XdpMode,
)
from galelb.plugins import Plugins
from galelb.sources import BackgroundService, HealthSource, Scheduler
from galelb.tables.maglev import Maglev
from galelb.transport import SyncTransport

NODE = ip_address("10.0.0.1")
SERVICE = Service(
    name="web",
    vip=ip_address("192.0.2.1"),
    port=80,
    protocol=Protocol.TCP,
    target_port=80,
    forwarder="x",
)
REPORT = HealthReport(source="test", address=NODE, status=HealthStatus.SERVING)
RECORD = NodeRecord(node=Node(address=NODE), state=NodeState.ROUTABLE)
PEER = Peer(address=ip_address("10.0.0.9"), port=9090)
NODES = [("10.0.0.1", 1), ("10.0.0.2", 1)]


class Bodies:
    """What the hooks of these tests do, without their prefix: answer, or note their arguments."""

    def register(self):
        return self.answer

    metrics = register

    def build_table(self, service, nodes, size, seed):
        return self.answer(service, nodes, size, seed)

    def judge_node(self, record, report):
        return self.answer

    def admit_node(self, report):
        return self.answer

    def merge_record(self, ours, theirs):
        return self.answer

    def health_reported(self, report):
        self.calls.append((report,))

    def node_changed(self, old, new):
        self.calls.append((old, new))

    peer_changed = node_changed

    def table_changed(self, service, digest, moved):
        self.calls.append((service, digest, moved))

    def attached(self, interface, mode):
        self.calls.append((interface, mode))

    def detached(self, interface):
        self.calls.append((interface,))

    def started(self, plugins):
        self.calls.append((plugins,))

    def stopping(self):
        self.calls.append(())


def plugins_with(hook, answer=None, *, calls=None):
    """Plugins with one that implements one hook."""
    body = getattr(Bodies, hook.removeprefix("galelb_"), Bodies.register)
    one = type("One", (), {hook: hookimpl(body)})()
    one.answer, one.calls = answer, calls
    return Plugins.discover(load_entry_points=False, extra=[one])


def component(base, *methods):
    async def run(self, *, task_status):
        task_status.started()

    others = {name: lambda *_: None for name in methods}
    return type("Mine", (base,), {"name": "mine", "run": run, **others})


def test_galelb_register_forwarders():
    cls = type("F", (Forwarder,), {"name": "f", "source": Path("f.c"), "plan": lambda *_: {}})

    assert plugins_with("galelb_register_forwarders", [cls]).forwarder("f") is cls


def test_galelb_register_schedulers():
    cls = type("S", (Scheduler,), {"name": "s", "build": lambda *_: []})
    plugins = plugins_with("galelb_register_schedulers", [cls])

    assert plugins.scheduler("s") is cls
    assert plugins.scheduler("maglev") is Maglev


def test_galelb_register_health_sources():
    cls = component(HealthSource)

    assert plugins_with("galelb_register_health_sources", [cls]).health_source("mine") is cls


def test_galelb_register_sync_transports():
    cls = component(SyncTransport, "write", "leave", "keys")

    assert plugins_with("galelb_register_sync_transports", [cls]).sync_transport("mine") is cls


def test_galelb_register_announcers():
    cls = component(Announcer, "announce", "withdraw")

    assert plugins_with("galelb_register_announcers", [cls]).announcer("mine") is cls


def test_galelb_register_services():
    cls = component(BackgroundService)

    assert {"mine": cls} == plugins_with("galelb_register_services", [cls]).services()


def test_galelb_register_commands():
    command = click.Command("hello")

    assert [command] == plugins_with("galelb_register_commands", [command]).commands()


def test_galelb_build_table():
    plugins = plugins_with("galelb_build_table", lambda _s, _n, size, seed: [seed] * size)

    assert [1, 1, 1] == plugins.build_table(SERVICE, NODES, 3, 1)


def test_galelb_build_table_by_default_asks_the_scheduler_of_the_service():
    plugins = Plugins()
    mine = type("Mine", (Scheduler,), {"build": lambda self, nodes, size, seed: [1] * size})
    plugins._core.schedulers = {**plugins._core.schedulers, "mine": mine(None)}
    other = attrs.evolve(SERVICE, scheduler="mine")

    assert Maglev().build(NODES, 101, 7) == plugins.build_table(SERVICE, NODES, 101, 7)
    assert [1] * 101 == plugins.build_table(other, NODES, 101, 7)


@pytest.mark.parametrize("table", [[0], [0, 1, 2], [0, 0, -1], [0, 0, "1"], 5])
def test_galelb_build_table_passes_over_a_table_that_is_none(table):
    plugins = plugins_with("galelb_build_table", lambda *_: table)

    with pytest.raises(PluginError, match="no lookup table for service web"):
        plugins.build_table(SERVICE, NODES, 4, 0)  # and Maglev refuses 4 slots


def test_galelb_judge_node():
    assert not plugins_with("galelb_judge_node", False).judge_node(RECORD, REPORT)
    assert Plugins().judge_node(RECORD, REPORT)


def test_galelb_admit_node():
    assert not plugins_with("galelb_admit_node", False).admit_node(REPORT)
    assert plugins_with("galelb_admit_node", None).admit_node(REPORT)
    assert plugins_with("galelb_admit_node", "no").admit_node(REPORT)


def test_galelb_merge_record():
    assert RECORD is plugins_with("galelb_merge_record", RECORD).merge_record(RECORD, RECORD)
    assert Plugins().merge_record(RECORD, RECORD) is None


@pytest.mark.parametrize(
    ("hook", "method", "facts"),
    [
        ("galelb_health_reported", "health_reported", (REPORT,)),
        ("galelb_node_changed", "node_changed", (None, RECORD)),
        ("galelb_table_changed", "table_changed", (SERVICE, "abc", 0.1)),
        ("galelb_peer_changed", "peer_changed", (None, PEER)),
        ("galelb_attached", "attached", ("eth0", XdpMode.NATIVE)),
        ("galelb_detached", "detached", ("eth0",)),
        ("galelb_started", "started", ({"x": "1"},)),
        ("galelb_stopping", "stopping", ()),
    ],
)
def test_notify_hooks_hand_over_the_facts(hook, method, facts):
    calls = []

    getattr(plugins_with(hook, calls=calls), method)(*facts)

    assert [facts] == calls


def test_galelb_started_tells_the_versions_of_plugins_unless_told_otherwise():
    calls = []

    plugins_with("galelb_started", calls=calls).started()

    assert "maglev" in calls[0][0]


def test_galelb_metrics():
    metric = Metric(name="x", help="X.", value=1)

    assert [metric] == plugins_with("galelb_metrics", iter([metric])).metrics()
    assert [] == plugins_with("galelb_metrics", [metric, "x"]).metrics()
    assert [] == plugins_with("galelb_metrics", None).metrics()
