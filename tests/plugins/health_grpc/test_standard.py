# SPDX-License-Identifier: Apache-2.0
"""The standard health protocol, asked for by our own client and by grpcio."""

import json
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest
import trio
import trio.testing
from galelb_plugins.health_grpc.standard import CHECK, LIST, WATCH

from galelb.grpc.client import Channel
from galelb.grpc.framing import CallError
from galelb.grpc.health_v1_pb2 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListResponse,
)

A = ip_address("10.0.0.1")
CLIENT = Path(__file__).with_name("grpcio_health_client.py")
STATUS = HealthCheckResponse.ServingStatus


def asking(service=""):
    return HealthCheckRequest(service=service).SerializeToString()


def word(payload):
    return STATUS.Name(HealthCheckResponse.FromString(payload).status)


@pytest.fixture
async def core(make_core, autojump_clock, nursery):
    core = make_core()
    ours, theirs = trio.testing.memory_stream_pair()
    core.server = core.source().server
    nursery.start_soon(core.server.serve_stream, theirs, A)
    core.channel = Channel(ours, "test")
    await core.channel.start(nursery)
    return core


def change(core, **services):
    core.serving = {"": all(services.values()), **services}
    core.context.changed.notify()


async def watch(core, service=""):
    call = core.channel.stream(WATCH)
    await call.send(asking(service))
    call.end()
    return call


@pytest.mark.parametrize("service", ["", "web"])
async def test_what_serves_is_serving(core, service):
    assert "SERVING" == word(await core.channel.unary(CHECK, asking(service)))


async def test_a_service_without_nodes_is_not_serving(core):
    core.serving = {"": False, "web": True, "dns": False}

    words = [word(await core.channel.unary(CHECK, asking(name))) for name in core.serving]

    assert ["NOT_SERVING", "SERVING", "NOT_SERVING"] == words


async def test_an_unknown_service_is_not_found(core):
    with pytest.raises(CallError, match="NOT_FOUND: no service 'dns'"):
        await core.channel.unary(CHECK, asking("dns"))


@pytest.mark.parametrize("path", [CHECK, LIST])
async def test_garbage_is_refused(core, path):
    with pytest.raises(CallError, match="INVALID_ARGUMENT: the message is not a Health"):
        await core.channel.unary(path, b"\xff\xff")


async def test_all_services_are_listed(core):
    core.serving = {"": False, "web": True, "dns": False}

    answer = HealthListResponse.FromString(await core.channel.unary(LIST, b""))

    assert {"": 2, "web": 1, "dns": 2} == {k: v.status for k, v in answer.statuses.items()}


async def test_too_many_services_for_a_list_are_refused(core):
    core.serving = {"": True} | {f"s{number}": True for number in range(1000)}

    with pytest.raises(CallError, match="RESOURCE_EXHAUSTED: 1001 services"):
        await core.channel.unary(LIST, b"")


async def test_a_watcher_hears_each_change_and_nothing_else(core):
    call = await watch(core, "web")
    heard = [word(await call.receive())]
    for on in (True, False, False, True):
        change(core, web=on, dns=not on)
        await trio.testing.wait_all_tasks_blocked()

    heard += [word(await call.receive()) for _ in range(2)]

    assert ["SERVING", "NOT_SERVING", "SERVING"] == heard
    with trio.move_on_after(5) as waited:
        await call.receive()
    assert waited.cancelled_caught


async def test_a_watched_service_may_come_and_go(core):
    call = await watch(core, "dns")
    heard = [word(await call.receive())]
    for services in ({"web": True, "dns": True}, {"web": True}):
        change(core, **services)
        heard.append(word(await call.receive()))

    assert ["SERVICE_UNKNOWN", "SERVING", "SERVICE_UNKNOWN"] == heard


async def test_a_watcher_that_gives_up_leaves_nothing_behind(core):
    """Its stream is reset while its connection lives on and nothing changes."""
    await trio.testing.wait_all_tasks_blocked()
    before = tasks()
    for _ in range(10):
        call = await watch(core)
        await call.receive()
        during = tasks()
        call.cancel()
        await trio.testing.wait_all_tasks_blocked()

    assert during > before
    assert before == tasks()


def tasks():
    return trio.lowlevel.current_statistics().tasks_living


async def test_a_watch_without_a_request_is_refused(core):
    call = core.channel.stream(WATCH)
    call.end()

    with pytest.raises(CallError, match="INVALID_ARGUMENT: the call has no request"):
        await call.receive()


async def said(client):
    """Return the next line that the client prints."""
    line = b""
    while not line.endswith(b"\n"):
        line += await client.stdout.receive_some(1)
    return json.loads(line)


async def test_grpcio_understands_it(make_core, free_port, nursery):
    core = make_core(free_port)
    core.serving = {"": True, "web": False}
    await nursery.start(core.source().run)
    command = [sys.executable, str(CLIENT), str(free_port)]
    with trio.fail_after(60):
        client = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        asked = await said(client)
        watched = [await said(client)]
        await client.stdin.send_all(b"go on\n")
        change(core, web=True, dns=True)
        watched.append(await said(client))
        await client.stdin.send_all(b"\n")
        code = await client.wait()

    assert {"balancer": "0801", "web": "0802", "dns": "NOT_FOUND"} == {
        key: asked[key] for key in ("balancer", "web", "dns")
    }
    assert "0a03776562" + "12020802" in asked["list"]
    assert asked["list"].count("12020801") == 1
    assert [["0802", "0803"], ["0801", "0801"]] == watched
    assert 0 == code
