# SPDX-License-Identifier: Apache-2.0
"""What the API of a balancer with traffic tells: metrics, events, histories, configuration."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import attrs
import httpx
import trio
from prometheus_client.parser import text_string_to_metric_families

from galelb.client import ApiClient
from galelb.control.metric_families import FAMILIES
from galelb.lab.clients import collect
from galelb.lab.hosts import Host
from galelb.lab.http_client import Target
from galelb.lab.jobs import Requests
from galelb.lab.lab import kill_host
from galelb.lab.ready import node_addresses
from galelb.lab.session import open_lab
from galelb.lab.state import new_spec
from galelb.testing.metrics_lint import lint_metrics

OF_GROUPS = ("galelb_peer_", "galelb_group_", "galelb_copy_", "galelb_shar")
"""Metrics that a lone balancer has not."""
REQUESTS = 200


def scrape(balancer: Host) -> str:
    transport = httpx.HTTPTransport(uds=str(balancer.instance / "api.sock"))
    with httpx.Client(transport=transport, base_url="http://galelb") as client:
        return client.get("/metrics").text


def samples(page: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def value(page: str, name: str, **labels: str) -> float:
    """Return the sum of the samples that have these labels."""
    return sum(
        number
        for found, of, number in samples(page)
        if found == name and labels.items() <= of.items()
    )


@attrs.define
class Follower:
    """Reads a balancer's events in a thread of its own, until its stream ends."""

    balancer: Host
    events: list[dict[str, Any]] = attrs.Factory(list)
    connected: bool = False

    def run(self) -> None:
        with ApiClient(self.balancer.instance / "api.sock") as client, client.events() as events:
            self.connected = True
            for one in events:
                self.events.append(one)

    async def first(self, name: str, **facts: object) -> dict[str, Any]:
        """Wait for an event with these facts and return it."""
        with trio.move_on_after(60):
            while True:
                for event in list(self.events):
                    if event["event"] == name and facts.items() <= event.items():
                        return event
                await trio.sleep(0.05)
        raise AssertionError(f"no {name} with {facts} among {self.events}")


async def follow(follower: Follower) -> None:
    """Run it; where the test fails meanwhile, its thread is left to the balancer's end."""
    await trio.to_thread.run_sync(follower.run, abandon_on_cancel=True)


async def test_a_balancer_tells_what_it_does() -> None:
    async with open_lab(new_spec(nodes=2)) as state:
        plan = state.plan
        (vip,) = plan.vips
        balancer, node = plan.host("lb1"), plan.host("node1")
        follower = Follower(balancer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, follower)
            while not follower.connected:
                await trio.sleep(0.05)
            job = Requests(targets=(Target(vip.address, vip.port),), count=REQUESTS)
            results = await collect(plan.host("client1"), [job])
            page = await trio.to_thread.run_sync(scrape, balancer)

            kill_host(state, node)
            fell = await follower.first("node_state", state="down")
            table = await follower.first("table_changed")
            assert balancer.config is not None
            text = balancer.config.read_text()
            balancer.config.write_text(text + "\n[nonsense]\n")
            daemon = state.processes[balancer.name][0].pid
            os.kill(daemon, signal.SIGHUP)
            refused = await follower.first("config_refused")
            balancer.config.write_text(text)
            os.kill(daemon, signal.SIGHUP)
            await follower.first("config_reloaded")
            with ApiClient(balancer.instance / "api.sock") as client:
                history = await trio.to_thread.run_sync(client.history, fell["node"])
                config = await trio.to_thread.run_sync(client.get, "config")
            later = await trio.to_thread.run_sync(scrape, balancer)
            kill_host(state, balancer)

    assert [result for result in results if result.error] == []
    assert lint_metrics(page) == []
    missing = {one.name.removesuffix("_total") for one in FAMILIES} - {
        family.name for family in text_string_to_metric_families(page)
    }
    assert [name for name in missing if not name.startswith(OF_GROUPS)] == ["galelb_flows_carried"]
    # A request is some packets, each of a counted outcome; both nodes had a share.
    assert value(page, "galelb_packets_total", outcome="forwarded") >= 3 * REQUESTS
    assert value(page, "galelb_node_packets_total") == value(
        page, "galelb_packets_total", outcome="forwarded"
    )
    assert value(page, "galelb_node_state", state="routable") == 2
    assert value(page, "galelb_ready") == 1
    assert value(page, "galelb_event_loop_lag_seconds_count") > 0
    assert value(page, "galelb_lookup_table_build_duration_seconds_count", scheduler="maglev") > 0

    assert fell["node"] in node_addresses(plan, node)
    assert (fell["old_state"], table["moved_share"]) == ("routable", 0.5)
    assert fell["reason"]
    assert "nonsense" in refused["reason"]
    assert [history[0]["event"], history[-1]["event"]] == ["node_joined", "node_state"]
    assert fell["id"] == history[-1]["id"]
    assert config["settings"]["instance"]["name"] == "lb1"
    assert value(later, "galelb_node_state", state="down") == 1
    assert value(later, "galelb_config_last_reload_successful") == 1
    assert value(later, "galelb_events_total", event="config_refused") == 1
