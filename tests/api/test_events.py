# SPDX-License-Identifier: Apache-2.0
"""What happened, and streams of what happens: complete, or saying that they are not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import trio
import trio.testing

from galelb.api import events as events_module
from galelb.api.app import create_app
from galelb.api.auth import AllowAll
from galelb.api.events import GAP, LEAST_OF_NODE, MAX_NODES, MOST_OF_NODE, QUEUE, EventLog
from galelb.api.guard import MAX_RUNNING
from galelb.api.limits import MAX_STREAMS
from galelb.testing.fakes import FakeBalancer


def log_with(count: int) -> EventLog:
    log = EventLog(lambda: 1_700_000_000.5)
    for number in range(count):
        log.add("table_changed", service=f"s{number}")
    return log


async def taken(log: EventLog, last_id: str | None) -> list[tuple[str, str | None]]:
    """Return (kind, service) of what a new subscriber gets before anything else happens."""
    with log.subscribe(last_id) as subscription:
        log.close()
        found = []
        while (event := await subscription.next()) is not None:
            found.append((event.kind, event.facts.get("service")))
    return found


async def test_a_subscriber_gets_what_comes() -> None:
    log = log_with(2)
    with log.subscribe() as subscription:
        log.add("attached", interface="eth0")

        event = await subscription.next()

    assert event is not None
    assert ("attached", {"interface": "eth0"}) == (event.kind, event.facts)
    assert 0 == log.subscribers


async def test_who_was_away_gets_what_it_missed() -> None:
    log = log_with(3)
    known = log.last(2)[0]

    assert [("table_changed", "s2")] == await taken(log, known.id)


async def test_who_missed_nothing_gets_nothing() -> None:
    log = log_with(3)

    assert [] == await taken(log, log.last(1)[0].id)


async def test_an_id_that_says_nothing_is_answered_with_a_gap() -> None:
    for last_id in ("", "1", "18bcfe569f3-1", "x-1", "-", "\ud800", "9" * 5000, "18bcfe569f4-9"):
        assert [(GAP, None)] == await taken(log_with(3), last_id)


async def test_who_was_away_for_too_long_is_told(monkeypatch: Any) -> None:
    monkeypatch.setattr(events_module, "KEEP", 2)
    log = log_with(1)
    known = log.last(1)[0].id
    log.add("a")
    log.add("b")
    assert [("a", None), ("b", None)] == await taken(log, known)

    log = log_with(1)
    known = log.last(1)[0].id
    for _ in range(3):
        log.add("c")
    assert [(GAP, None)] == await taken(log, known)


async def test_a_subscriber_that_takes_nothing_is_cut_off_and_holds_nobody_up() -> None:
    log = log_with(0)
    with log.subscribe() as slow, log.subscribe() as quick:
        for number in range(QUEUE + 5):
            log.add("table_changed", service=str(number))
            assert await quick.next() is not None
        taken = 0
        while await slow.next() is not None:
            taken += 1

    assert (QUEUE, True, False) == (taken, slow.overrun, quick.overrun)


def test_every_node_has_its_history_within_bounds() -> None:
    log = EventLog()
    for number in range(MOST_OF_NODE + 5):
        log.add("node_state", node="10.0.0.1", number=number)
    log.add("node_state", node="10.0.0.2")

    assert list(range(5, MOST_OF_NODE + 5)) == [
        event.facts["number"] for event in log.of_node("10.0.0.1")
    ]
    assert (1, 0) == (len(log.of_node("10.0.0.2")), len(log.of_node("10.0.0.3")))


def test_many_nodes_have_shorter_histories_and_the_quietest_goes() -> None:
    log = EventLog()
    for node in range(MAX_NODES + 1):
        for _ in range(LEAST_OF_NODE + 1):
            log.add("node_state", node=str(node))

    assert 0 == len(log.of_node("0"))
    assert LEAST_OF_NODE == len(log.of_node(str(MAX_NODES)))


# over HTTP


class Reader:
    """A client of /v1/events that speaks ASGI; `close` = it goes away."""

    def __init__(self, app: Any, headers: dict[str, str] | None = None) -> None:
        self._app = app
        self._headers = [(k.encode(), v.encode("latin-1")) for k, v in (headers or {}).items()]
        self.sent: list[dict[str, Any]] = []
        self.closed = trio.Event()
        self._asked = False
        self.method = "GET"

    async def run(self) -> None:
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": self.method,
            "path": "/v1/events",
            "query_string": b"",
            "headers": self._headers,
        }

        async def receive() -> dict[str, Any]:
            if not self._asked:
                self._asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await self.closed.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            self.sent.append(message)

        await self._app(scope, receive, send)

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode()

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])


@asynccontextmanager
async def reading(reader: Reader) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.run)
        await trio.testing.wait_all_tasks_blocked()
        yield
        reader.closed.set()


async def test_events_come_as_server_sent_events(balancer: FakeBalancer) -> None:
    reader = Reader(create_app(balancer, AllowAll()))
    async with reading(reader):
        event = balancer.events.add("node_state", node="10.0.0.11", state="down", reason="a\nb")
        await trio.testing.wait_all_tasks_blocked()

    headers = dict(reader.sent[0]["headers"])
    assert (200, b"text/event-stream; charset=utf-8") == (reader.status, headers[b"content-type"])
    lines = reader.text.split("\n\n")[1].split("\n")
    assert [f"id: {event.id}", "event: node_state"] == lines[:2]
    data = json.loads(lines[2].removeprefix("data: "))
    assert {
        "id": event.id,
        "time": data["time"],
        "event": "node_state",
        "node": "10.0.0.11",
        "state": "down",
        "reason": "a\nb",
    } == data


async def test_a_stream_goes_on_where_it_broke_off(balancer: FakeBalancer) -> None:
    known, missed = (balancer.events.add(kind) for kind in ("attached", "detached"))
    reader = Reader(create_app(balancer, AllowAll()), {"last-event-id": known.id})
    async with reading(reader):
        pass

    assert f"id: {missed.id}\nevent: detached\n" in reader.text
    assert "event: attached" not in reader.text


async def test_a_gap_has_no_id_that_a_client_would_keep(balancer: FakeBalancer) -> None:
    reader = Reader(create_app(balancer, AllowAll()), {"last-event-id": "\xff"})
    async with reading(reader):
        pass

    assert "\n\nevent: gap\ndata: " in reader.text


async def test_silence_is_filled(balancer: FakeBalancer, autojump_clock: object) -> None:
    reader = Reader(create_app(balancer, AllowAll()))
    async with reading(reader):
        await trio.sleep(3600)

    assert reader.text.count(": nothing new\n\n") > 100


async def test_the_end_of_the_balancer_ends_streams(balancer: FakeBalancer) -> None:
    reader = Reader(create_app(balancer, AllowAll()))
    async with reading(reader):
        balancer.events.add("stopping")
        balancer.events.close()
        await trio.testing.wait_all_tasks_blocked()
        assert {"type": "http.response.body", "body": b"", "more_body": False} == reader.sent[-1]

    assert "event: stopping\n" in reader.text


async def test_streams_are_few_and_leave_room_for_other_requests(balancer: FakeBalancer) -> None:
    assert MAX_STREAMS > MAX_RUNNING
    app = create_app(balancer, AllowAll())
    readers = [Reader(app) for _ in range(MAX_STREAMS)]
    late = Reader(app)
    async with trio.open_nursery() as nursery:
        for reader in readers:
            nursery.start_soon(reader.run)
        await trio.testing.wait_all_tasks_blocked()
        await late.run()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://galelb") as client:
            assert 200 == (await client.get("/v1/status")).status_code
        readers[0].closed.set()
        await trio.testing.wait_all_tasks_blocked()
        again = Reader(app)
        nursery.start_soon(again.run)
        await trio.testing.wait_all_tasks_blocked()
        for reader in (*readers, again):
            reader.closed.set()

    assert (429, 200) == (late.status, again.status)
    assert "too_many_streams" in late.text
    assert 0 == balancer.events.subscribers


async def test_a_head_request_ends_at_once(balancer: FakeBalancer) -> None:
    reader = Reader(create_app(balancer, AllowAll()))
    reader.method = "HEAD"
    await reader.run()

    assert (200, "") == (reader.status, reader.text)


async def test_recent_events_and_histories(
    client: httpx.AsyncClient, balancer: FakeBalancer
) -> None:
    balancer.events.add("node_joined", node="10.0.0.11", state="probation")
    balancer.events.add("attached", interface="eth0")
    balancer.events.add("node_left", node="10.0.0.99", reason="removed")

    recent = (await client.get("/v1/events/recent?limit=2")).json()["events"]
    of_node = (await client.get("/v1/nodes/web-1/history")).json()
    gone = (await client.get("/v1/nodes/10.0.0.99/history")).json()
    quiet = (await client.get("/v1/nodes/web-2/history")).json()

    assert ["attached", "node_left"] == [event["event"] for event in recent]
    assert ("10.0.0.11", ["node_joined"]) == (
        of_node["node"],
        [event["event"] for event in of_node["history"]],
    )
    assert ["removed"] == [event["reason"] for event in gone["history"]]
    assert {"node": "10.0.0.12", "history": []} == quiet
