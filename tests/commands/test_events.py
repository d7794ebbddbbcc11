# SPDX-License-Identifier: Apache-2.0
"""What operators read of what happened, from a real server with a fake balancer behind it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import trio
from click.testing import CliRunner
from structlog.testing import capture_logs

from galelb.api.listen import SOCKET_FILE
from galelb.api.server import ApiServer
from galelb.client import ApiClient
from galelb.commands import events as command
from galelb.commands.event_lines import event_line, event_words
from galelb.commands.status import nodes_command
from galelb.errors import ApiError
from galelb.testing.fakes import FakeBalancer

FELL = {
    "name": "web-1",
    "old_state": "routable",
    "state": "down",
    "reason": "no report for 5 s",
    "draining": False,
    "weight": 0,
    "neighbour": None,
}


@pytest.fixture
def balancer() -> FakeBalancer:
    return FakeBalancer()


@pytest.fixture
async def socket(tmp_path: Path, balancer: FakeBalancer, nursery: trio.Nursery) -> Path:
    with capture_logs():
        await nursery.start(ApiServer(balancer, addresses=(), port=5555, directory=tmp_path).run)
    return tmp_path / SOCKET_FILE


async def run(command: click.Command, socket: Path, *arguments: str) -> str:
    def invoke() -> str:
        arguments_ = [*arguments, "--api", f"unix:{socket}"]
        result = CliRunner().invoke(command, arguments_, catch_exceptions=False)
        assert 0 == result.exit_code, result.output
        return result.output

    with capture_logs():
        return await trio.to_thread.run_sync(invoke)


async def test_the_last_events_are_lines(socket: Path, balancer: FakeBalancer) -> None:
    balancer.events.add("attached", interface="eth0", mode="native")
    balancer.events.add("node_state", node="10.0.0.11", **FELL)

    shown = await run(command.events_command, socket)

    assert [
        "eth0: attached, native",
        "web-1 (10.0.0.11): routable -> down, no report for 5 s",
    ] == [line[25:] for line in shown.splitlines()]


async def test_json_is_one_object_per_line(socket: Path, balancer: FakeBalancer) -> None:
    for mode in ("native", "tc", "generic"):
        balancer.events.add("attached", interface="eth0", mode=mode)

    shown = await run(command.events_command, socket, "--json", "--limit", "2")

    assert ["tc", "generic"] == [json.loads(line)["mode"] for line in shown.splitlines()]


async def test_silence_is_said(socket: Path) -> None:
    assert "Nothing has happened" in await run(command.events_command, socket)


async def test_following_goes_on_where_the_list_ended(socket: Path, balancer: FakeBalancer) -> None:
    first = balancer.events.add("attached", interface="eth0", mode="native")
    balancer.events.add("detached", interface="eth0")
    seen: list[str] = []
    enough = threading.Event()

    def follow() -> None:
        with ApiClient(socket) as client, client.events(first.id) as events:
            for one in events:
                seen.append(one["event"])
                enough.set()

    with capture_logs():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, follow)
            await trio.to_thread.run_sync(enough.wait)
            balancer.events.add("stopping")
            balancer.events.close()

    assert ["detached", "stopping"] == seen


class Streams:
    """A client of balancers whose streams break off."""

    def __init__(self, *streams: list[dict[str, str]] | ApiError) -> None:
        self._streams = list(streams)
        self.asked: list[str | None] = []

    def events(self, last_id: str | None) -> Streams:
        self.asked.append(last_id)
        return self

    def __enter__(self) -> Iterator[dict[str, str]]:
        stream = self._streams.pop(0)
        if isinstance(stream, ApiError):
            raise stream
        return iter(stream)

    def __exit__(self, *error: object) -> None:
        pass

    def get(self, resource: str, limit: int) -> dict[str, list[dict[str, str]]]:
        assert "events/recent" == resource
        return {"events": [event("b-1", "started"), event("b-2"), event("b-3")]}


def event(id_: str, name: str = "attached") -> dict[str, str]:
    return {"id": id_, "event": name}


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.time, "sleep", lambda seconds: None)


def test_a_balancer_that_ends_is_waited_for(
    no_pauses: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is asked again from the last event on, however the stream broke off."""
    gone = ApiError("cannot reach it")
    client = Streams([event("a-1"), event("a-2")], gone, gone, [event("a-3")], gone, [event("a-4")])
    following = command._following(client, "a-0")  # type: ignore[arg-type]

    assert ["a-1", "a-2", "a-3", "a-4"] == [next(following)["id"] for _ in range(4)]
    assert ["a-0", "a-2", "a-2", "a-2", "a-3", "a-3"] == client.asked
    assert ["the balancer ended the events: waiting for it"] * 2 == (
        capsys.readouterr().err.splitlines()
    )


def test_what_a_new_balancer_did_before_it_was_found_is_told(no_pauses: None) -> None:
    client = Streams([event("a-9")], [event("b-2", "gap"), event("b-3")])
    following = command._following(client, None)  # type: ignore[arg-type]

    assert ["a-9", "b-2", "b-1", "b-2", "b-3"] == [next(following)["id"] for _ in range(5)]


async def test_a_node_is_shown_with_its_history(socket: Path, balancer: FakeBalancer) -> None:
    balancer.events.add("node_joined", node="10.0.0.11", **{**FELL, "state": "probation"})
    balancer.events.add("node_state", node="10.0.0.11", **FELL)
    balancer.events.add("node_state", node="10.0.0.12", **FELL)

    text = await run(nodes_command, socket, "web-1")
    shown = json.loads(await run(nodes_command, socket, "web-1", "--json"))

    lines = text.splitlines()
    assert (5, True) == (len(lines), lines[1].startswith("web-1"))
    assert lines[-1].endswith("web-1 (10.0.0.11): routable -> down, no report for 5 s")
    assert ("10.0.0.11", ["node_joined", "node_state"]) == (
        shown["address"],
        [one["event"] for one in shown["history"]],
    )


async def test_a_node_without_history_says_so(socket: Path) -> None:
    assert "Nothing has happened to it" in await run(nodes_command, socket, "10.0.0.13")


@pytest.mark.parametrize(
    ("happened", "words"),
    [
        ({"event": "node_joined", **FELL, "reason": ""}, "joined, down"),
        ({"event": "node_left", **FELL, "reason": "removed"}, "is gone, removed"),
        ({"event": "node_draining", **FELL, "draining": True}, "drains"),
        ({"event": "node_draining", **FELL}, "drains no longer"),
        ({"event": "node_weight", **FELL, "weight": 2.5}, "weight 2.5"),
        ({"event": "node_neighbour", **FELL}, "its MAC address is not known any more"),
        (
            {"event": "table_changed", "digest": "", "moved_share": 1},
            "no routable node, so no table",
        ),
        (
            {"event": "table_changed", "digest": "0123456789", "moved_share": 0.25},
            "table 01234567, 25.0% of the slots moved",
        ),
        ({"event": "peer_changed", "alive": False}, "dead"),
        ({"event": "config_reloaded", "config_digest": "0123456789"}, "configuration 01234567 is"),
        (
            {"event": "config_refused", "reason": "a.toml:1: x\na.toml:2: y"},
            "configuration refused: a.toml:1: x (and 1 more)",
        ),
        ({"event": "started", "version": "1", "adopted": True}, "galelb 1 forwards, took over"),
        ({"event": "stopping"}, "the balancer stops"),
        ({"event": "gap"}, "some events are missing"),
        ({"event": "of_tomorrow", "a": 1}, "of_tomorrow a=1"),
        ({"event": "node_state", **FELL, "reason": "\x1b[2J\ud800"}, "down, ?[2J?"),
    ],
)
def test_every_event_has_words(happened: dict[str, Any], words: str) -> None:
    assert words in event_words(happened)


def test_peers_are_named() -> None:
    peer = {"event": "peer_changed", "time": "2026-01-01T00:00:00.000Z", "alive": True}

    assert event_line(peer | {"peer": "fd00::2", "port": 9090}).endswith("  [fd00::2]:9090: alive")
