# SPDX-License-Identifier: Apache-2.0
"""`galelb capture` on a balancer that forwards: both sides of packets, and nobody notices it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from scapy.layers.inet import IP, TCP
from scapy.utils import PcapNgReader

from galelb.capture.records import facts_of
from galelb.lab.balancer_api import status
from galelb.lab.clients import run_load
from galelb.lab.hosts import Host, Role
from galelb.lab.http_client import Target
from galelb.lab.jobs import Requests, Result
from galelb.lab.lab import kill_host, start_host
from galelb.lab.processes import is_alive
from galelb.lab.ready import wait_routable
from galelb.lab.session import open_lab
from galelb.lab.state import LabState, new_spec
from galelb.lab.topology import nsenter, run_tool

CAPTURE = [sys.executable, "-m", "galelb", "capture"]


def programs(balancer: Host) -> list[int]:
    """Return the ids of the programs that a balancer's interfaces run."""
    shown = run_tool(nsenter(balancer.namespace, ["ip", "-json", "-details", "link", "show"]))
    return [one["xdp"]["prog"]["id"] for one in json.loads(shown) if "xdp" in one]


def capture_pins(balancer: Host) -> list[str]:
    return [pin.name for pin in balancer.instance.glob("bpf/gale_capture*")]


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await trio.sleep(0.05)


@asynccontextmanager
async def traffic(state: LabState) -> AsyncIterator[list[Result]]:
    """Requests go on inside of the block; gives their results."""
    results: list[Result] = []
    stop = trio.Event()
    (vip,) = state.plan.vips
    job = Requests(targets=(Target(vip.address, vip.port),), fresh=2, kept=1, pause_s=0.02)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_load, state.plan.host("client1"), [job], results.append, stop)
        await until(lambda: len(results) > 5)
        yield results
        count = len(results)
        await until(lambda: len(results) > count + 5)
        stop.set()


@asynccontextmanager
async def capturing(balancer: Host, *words: str, log: Path) -> AsyncIterator[trio.Process]:
    """A capture that has begun; killed at the end of the block if it still runs."""
    command = [*CAPTURE, "--config", str(balancer.config), *words]
    with log.open("wb") as file:
        process = await trio.lowlevel.open_process(
            command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        await until(lambda: b"capturing" in log.read_bytes() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


def frames(path: Path) -> list[Any]:
    with PcapNgReader(str(path)) as reader:
        return list(reader)


def facts(frame: Any) -> dict[str, str]:
    return facts_of(frame.comments[0].decode())


@pytest.mark.parametrize("plugin", ["l4_nat", "l3_route"])
async def test_both_sides_of_a_service_s_packets_are_captured(plugin: str, tmp_path: Path) -> None:
    path, log = tmp_path / "x.pcap", tmp_path / "log"
    async with open_lab(new_spec(plugin=plugin)) as state:
        (balancer,), (vip,) = state.plan.of(Role.BALANCER), state.plan.vips
        plain = programs(balancer)
        async with traffic(state) as results:
            words = ["--service", "default", "--count", "200", "--out", str(path)]
            async with capturing(balancer, *words, log=log) as process:
                assert await process.wait() == 0
            await until(lambda: programs(balancer) == plain)
            await until(lambda: not capture_pins(balancer))  # removed once the others run
            async with capturing(balancer, "--dropped", log=tmp_path / "other"):
                during = programs(balancer)

    captured = frames(path)
    came = [one for one in captured if one.direction == 1]
    sent = [one for one in captured if one.direction == 2]
    assert [one for one in results if one.error] == []
    assert (len(plain), 0) == (len(during), len(set(plain) & set(during)))
    assert (len(came), len(sent)) == (200, 200)
    assert {"default"} == {facts(one)["service"] for one in captured}
    pairs = list(zip(came, sent, strict=True))
    there = [(one, other) for one, other in pairs if facts(one)["reason"] == "forwarded"]
    nodes = {str(a.ip) for host in state.plan.of(Role.NODE) for a in host.addresses("private")}
    assert all(one[IP].dst == vip.address for one, _ in there)
    assert all(other[IP].dst == facts(one)["node"] for one, other in there)
    assert {facts(one)["node"] for one, _ in there} == nodes
    assert all(one[TCP].seq == other[TCP].seq for one, other in pairs)
    reasons = {facts(one)["reason"] for one, _ in pairs}
    assert reasons == ({"forwarded", "returned"} if plugin == "l4_nat" else {"forwarded"})
    assert "200 packets captured, 0 lost" in log.read_text()


async def test_it_ends_with_its_client_goes_on_over_a_reload_and_is_one(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with open_lab(new_spec()) as state:
        (balancer,) = state.plan.of(Role.BALANCER)
        daemon = state.processes[balancer.name][0].pid
        plain = programs(balancer)
        async with (
            traffic(state) as results,
            capturing(balancer, "--json", log=log) as process,
        ):
            second = await trio.run_process(
                [*CAPTURE, "--config", str(balancer.config)], check=False, capture_stderr=True
            )
            captures, notes = programs(balancer), (await status(balancer))["notes"]
            os.kill(daemon, signal.SIGHUP)
            await until(lambda: "event=reloaded" in balancer.log.read_text())
            seen = len(log.read_bytes())
            await until(lambda: len(log.read_bytes()) > seen)
            reloaded = programs(balancer)
            process.kill()
            await until(lambda: programs(balancer) == plain)
        objects = [json.loads(line) for line in _lines(log) if line[0] == "{"]

    assert [one for one in results if one.error] == []
    assert (second.returncode, b"a capture already" in second.stderr) == (1, True)
    assert captures != plain
    assert any("a capture runs" in note for note in notes)
    assert reloaded != plain
    assert {"default"} == {one["service"] for one in objects}


def _lines(path: Path) -> list[str]:
    """Return the whole lines of what was written."""
    return path.read_text().split("\n")[:-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_the_end_of_the_balancer_ends_it_and_a_new_one_forwards_plainly(
    number: signal.Signals, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    async with open_lab(new_spec()) as state:
        (balancer,) = state.plan.of(Role.BALANCER)
        daemon = state.processes[balancer.name][0]
        plain = programs(balancer)
        async with traffic(state) as results:
            async with capturing(balancer, log=log) as process:
                os.kill(daemon.pid, number)
                code = await process.wait()
            await until(lambda: not is_alive(daemon))
            after = programs(balancer)
            kill_host(state, balancer)  # what is left of it, for the record
            start_host(state, balancer)
            await wait_routable(state)
            again, left = programs(balancer), capture_pins(balancer)

    assert [one for one in results if one.error] == []
    assert (code, "ended the capture" in log.read_text()) == (1, True)
    # One that is killed can take nothing off; its programs forward, and soon copy no more.
    assert (after == plain) is (number == signal.SIGTERM)
    assert (again, left) == (plain, [])
