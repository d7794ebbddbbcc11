# SPDX-License-Identifier: Apache-2.0
"""Names of balancers: who knows them, and when they mean another machine."""

import random
from ipaddress import ip_address

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from galelb.node import names
from galelb.node.backoff import Backoff
from galelb.node.client import BalancerClient
from galelb.node.health import LocalHealth
from galelb.node.names import connect_tcp, resolve, wait_moved
from galelb.node.reasons import os_reason

OLD, NEW = ip_address("10.0.0.1"), ip_address("10.0.0.9")


class Resolver:
    """Answers with what it is told to: addresses, or an error; remembers when it was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.times = []

    async def __call__(self, host):
        await trio.lowlevel.checkpoint()
        self.times.append(trio.current_time())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, OSError):
            raise answer
        return frozenset(answer)


@pytest.fixture
def system(monkeypatch):
    resolver = Resolver([OLD])
    monkeypatch.setattr(names, "_by_the_system", resolver)
    return resolver


@pytest.fixture
def network_of(monkeypatch):
    resolver = Resolver([NEW])
    monkeypatch.setattr(names, "ask", resolver)
    return resolver


async def test_a_name_has_moved_when_two_looks_say_so(autojump_clock):
    look = Resolver([OLD], [NEW], [NEW])

    assert "10.0.0.9" == await wait_moved("lb", OLD, look)
    assert [30, 60, 90] == pytest.approx(look.times)


@pytest.mark.parametrize("between", [[OLD], [NEW, OLD]])
async def test_one_odd_answer_moves_nothing(autojump_clock, between):
    look = Resolver([NEW], between, [NEW], [OLD])

    with trio.move_on_after(1000) as scope:
        await wait_moved("lb", OLD, look)

    assert scope.cancelled_caught


async def test_a_name_that_nobody_knows_has_not_moved(autojump_clock):
    look = Resolver([NEW], OSError("no such name"), OSError("no such name"), [OLD])

    with trio.move_on_after(1000) as scope:
        await wait_moved("lb", OLD, look)

    assert scope.cancelled_caught


async def test_ordinary_names_are_the_systems_business(system, network_of, autojump_clock):
    assert frozenset({OLD}) == await resolve("lb.example")
    assert [] == network_of.times


async def test_mdns_names_that_the_system_knows_are_not_asked_for(
    system, network_of, autojump_clock
):
    assert frozenset({OLD}) == await resolve("lb-0.local")
    assert [] == network_of.times


@pytest.mark.parametrize("trouble", ["unknown", "silent"])
async def test_other_mdns_names_are_asked_for(
    system, network_of, autojump_clock, monkeypatch, trouble
):
    system.answers = [OSError("Name or service not known")]
    if trouble == "silent":

        async def silent(host):
            await trio.sleep_forever()

        monkeypatch.setattr(names, "_by_the_system", silent)

    assert frozenset({NEW}) == await resolve("LB-0.local.")
    assert [0.2] == pytest.approx(network_of.times)


async def test_a_name_that_nobody_answers_to_is_an_error(system, network_of, autojump_clock):
    system.answers = network_of.answers = [OSError("no")]

    with pytest.raises(OSError, match="nobody on this machine's networks answers to lb-0"):
        await resolve("lb-0.local")


async def test_every_address_of_a_name_is_tried(system):
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, trio.aclose_forcefully, listeners)
        # On 127.0.0.0 nobody can listen, and it comes first.
        system.answers = [[ip_address("127.0.0.0"), ip_address("127.0.0.1")]]
        stream = await connect_tcp("lb-0.local", port)
        async with stream:
            assert ("127.0.0.1", port) == stream.socket.getpeername()
        nursery.cancel_scope.cancel()


async def test_no_address_of_a_name_answers(system):
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    system.answers = [[ip_address("127.0.0.1")]]

    with pytest.raises(OSError) as caught:
        await connect_tcp("lb-0.local", port)

    assert "Connection refused" == os_reason(caught.value)


@pytest.fixture
def client(nursery, balancer, network, make_config, monkeypatch):
    monkeypatch.setattr("galelb.node.client._peer", lambda stream: OLD)

    def start(look, **address):
        config = make_config(["lb"])
        where = config.load_balancer.addresses[0]
        if address:
            where = where.model_copy(update={"hostname": None, **address})
        client = BalancerClient(
            where,
            config.node,
            LocalHealth(()),
            connect=network({"lb": balancer, str(OLD): balancer}).connect,
            backoff=Backoff(rng=random.Random(1)),
            look=look,
        )
        nursery.start_soon(client.run)
        return client

    return start


async def test_the_node_takes_leave_of_a_machine_that_lost_its_name(
    client, balancer, autojump_clock, nursery
):
    one = client(Resolver([NEW], [NEW], [OLD]))
    with capture_logs() as logs:
        await trio.sleep(65)

    goodbye = next(report for time, report in balancer.reports if report.status == 2)
    assert "lb now means 10.0.0.9" == goodbye.message
    assert ["lb now means 10.0.0.9"] == [e["reason"] for e in logs if e["event"] == "balancer_lost"]
    assert 2 == len(balancer.connects)
    assert 60 == pytest.approx(balancer.connects[1], abs=0.2)
    assert 0 == balancer.statuses[-1]
    assert one.reporting


async def test_a_machine_that_does_not_drain_is_left_all_the_same(
    client, balancer, autojump_clock, nursery
):
    balancer.drains = False
    client(Resolver([NEW], [NEW], [OLD]))
    await trio.sleep(70)

    assert 62 == pytest.approx(balancer.connects[1], abs=0.2)


async def test_an_address_is_never_looked_up(client, balancer, autojump_clock, nursery):
    look = Resolver([NEW])
    client(look, ip=OLD)
    await trio.sleep(200)

    assert [] == look.times
    assert 1 == len(balancer.connects)
