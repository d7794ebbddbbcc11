# SPDX-License-Identifier: Apache-2.0
"""What `galelb plan` says of a running balancer is what a reload, or an operator, then does."""

import json
import shutil
import signal
import subprocess
import sys
from collections import Counter

import pytest

from galelb.client import ApiClient

pytestmark = pytest.mark.netns

LB = """\
[instance]
name = "t"
run_dir = "{folder}"
[private_interface]
net_interface_private = "lb0"
[public_interface]
net_interface_public = "lb0"
[node_health]
sources = []
{health}
"""
SERVICE = """\
[[services]]
name = "{name}"
vip = "10.77.0.100"
port = {port}
forwarder = "{forwarder}"
scheduler = "{scheduler}"
"""


def service(name, port, forwarder="l4_nat", scheduler="maglev"):
    return SERVICE.format(name=name, port=port, forwarder=forwarder, scheduler=scheduler)


def node(last, more=""):
    mac = f"02:00:00:00:00:{last:02x}"
    return f'[[nodes]]\nip = "10.77.0.{last}"\nmac = "{mac}"\n{more}'


class Site:
    """A balancer on a wire; where its nodes are matters to nobody here."""

    def __init__(self, pair, folder):
        self.lb, _ = pair
        self._folder = folder
        self.config = folder / "lb.toml"
        self.lb.ip("address", "add", "10.77.0.100/32", "dev", "lb0")
        self._balancer = None

    def configure(self, *parts, health=""):
        self.config.write_text(LB.format(folder=self._folder, health=health) + "".join(parts))

    def command(self, *words):
        command = [sys.executable, "-m", "galelb", *words, "--config", str(self.config)]
        return ["nsenter", f"--net=/run/netns/{self.lb.name}", *command]

    def run(self, *words):
        done = subprocess.run(self.command(*words), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def read(self, *words):
        return json.loads(self.run(*words, "--json"))

    def start(self, nodes):
        """Run it until all services have all nodes."""
        command = self.command("run")
        self._balancer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.wait_for("event=ready")
        self.wait_for_nodes(nodes)

    def wait_for(self, event):
        """Return the line of the log with this event."""
        lines = []
        for line in self._balancer.stderr:
            lines.append(line)
            if event in line:
                return line
        raise AssertionError("".join(lines))

    def wait_for_nodes(self, count):
        while {one["routable_nodes"] for one in self.services().values()} != {count}:
            pass

    def hang_up(self):
        self._balancer.send_signal(signal.SIGHUP)

    def ask(self, resource, **params):
        with ApiClient(self._folder / "t/api.sock") as api:
            return api.get(resource, **params)

    def services(self):
        return {one["name"]: one for one in self.ask("services")["services"]}

    def changes(self):
        """Return what happened, as the balancer tells of it."""
        return self.ask("events/recent", limit=1000)["events"]

    def changes_since(self, earlier):
        known = {one["id"] for one in earlier}
        return [one for one in self.changes() if one["id"] not in known]

    def close(self):
        if self._balancer is not None:
            self._balancer.kill()
            self._balancer.communicate()
        subprocess.run(self.command("detach"), capture_output=True, check=False)


def moves(events):
    """Return (service, share that moved) of each table that was replaced."""
    changed = [one for one in events if one["event"] == "table_changed"]
    return [(one["service"], one["moved_share"]) for one in changed]


def planned(plan):
    return {
        one["name"]: round(one["moved"], 4)
        for one in plan["services"]
        if one["moved"] is not None and one["change"] != "same"
    }


def digests(plan):
    return {one["name"]: one["table_digest"] for one in plan["services"]}


def tables(site):
    return {name: one["table_digest"] for name, one in site.services().items()}


@pytest.fixture
def site(pair, tmp_path):
    made = Site(pair, tmp_path)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(tmp_path / "t", ignore_errors=True)


BOTH = (service("nat", 80), service("direct", 81, "l2_bridge", "ring"))


def test_a_reload_does_what_the_plan_said(site):
    site.configure(*BOTH, *map(node, (11, 12, 13, 14)))
    site.start(4)
    assert site.read("plan")["changes_nothing"]

    site.configure(*BOTH, node(11, "weight = 3\n"), *map(node, (12, 13)))
    plan = site.read("plan")
    before = site.changes()
    site.hang_up()
    site.wait_for("event=reloaded")
    moved = moves(site.changes_since(before))

    assert (plan["notes"], plan["reload_possible"], plan["recompiles"]) == ([], True, False)
    assert sorted(planned(plan).items()) == sorted(moved)
    assert planned(plan)["nat"] > 0.3
    assert digests(plan) == tables(site)
    assert {one["name"]: one["moves"] for one in plan["services"]} == {
        "nat": "new_flows",
        "direct": "all_flows",
    }
    assert site.read("plan")["changes_nothing"]


def test_nodes_and_services_that_come_are_as_the_plan_said(site):
    site.configure(*BOTH, *map(node, (11, 12, 13)))
    site.start(3)

    site.configure(*BOTH, service("more", 82), *map(node, (11, 12, 13, 14)))
    plan = site.read("plan")
    site.hang_up()
    site.wait_for("event=reloaded")
    site.wait_for_nodes(4)

    assert plan["recompiles"]
    assert digests(plan) == tables(site)
    assert {one["name"]: one["change"] for one in plan["services"]} == {
        "nat": "changed",
        "direct": "changed",
        "more": "added",
    }
    assert [one["change"] for one in plan["nodes"]] == ["same", "same", "same", "added"]


def test_an_operators_words_do_what_the_plan_said(site):
    site.configure(service("nat", 80), *map(node, (11, 12, 13)))
    site.start(3)
    before = tables(site)

    plan = site.read("plan", "--drain", "10.77.0.11", "--weight", "10.77.0.12=3")
    site.run("drain", "10.77.0.11")
    site.run("weight", "10.77.0.12", "3")
    while tables(site) != digests(plan):
        pass
    undone = site.read("plan", "--undrain", "10.77.0.11", "--weight", "10.77.0.12=1")

    assert digests(undone) == before
    assert planned(undone) == planned(plan)


def test_what_a_reload_refuses_is_planned_as_refused(site):
    site.configure(service("nat", 80), node(11))
    site.start(1)

    site.configure(service("nat", 80), node(11), "[forwarding]\ntable_size = 1009\n")
    plan = site.read("plan")
    site.hang_up()

    (reason,) = plan["restart_reasons"]
    assert not plan["reload_possible"]
    assert reason in site.wait_for("event=not_reloaded")


def test_a_node_that_comes_grows_into_the_share_that_was_planned(site):
    """Without state a slow start changes a table five times, else up to twenty times."""
    slow = 'slow_start = "1900ms"'
    site.configure(*BOTH, node(11), node(12), health=slow)
    site.start(2)
    while site.ask("status")["uptime_s"] < 1.9:
        pass  # nobody starts slowly before others can carry what it is spared

    site.configure(*BOTH, *map(node, (11, 12, 13)), health=slow)
    plan = site.read("plan")
    before = site.changes()
    site.hang_up()
    site.wait_for("event=node_slow_start_over")
    while tables(site) != digests(plan):
        pass

    steps = Counter(name for name, _ in moves(site.changes_since(before)))
    # A slow machine takes several steps at a time.
    assert 1 <= steps["direct"] <= 5
    assert steps["direct"] <= steps["nat"] <= 20
    assert "grow to their share" in plan["notes"][0]
    (joined,) = [one for one in site.read("nodes")["nodes"] if one["address"] == "10.77.0.13"]
    assert (joined["effective_weight"], joined["weight_reason"]) == (1, "")
