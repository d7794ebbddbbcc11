# SPDX-License-Identifier: Apache-2.0
"""One node and one balancer in virtual time: reporting, losing, finding again."""

import random

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from galelb.config.node import BalancerAddress, NodeSettings
from galelb.grpc.framing import CallError
from galelb.node.backoff import Backoff
from galelb.node.client import BalancerClient
from galelb.node.health import LocalHealth
from galelb.node.wire import Advice, Answer, encode_report


class Shortest(random.Random):
    def uniform(self, low, high):
        return high


@pytest.fixture
def start(nursery, balancer, network, make_config):
    def _start(health=None, backoff=None, **more):
        config = make_config(["lb"])
        client = BalancerClient(
            config.load_balancer.addresses[0],
            config.node,
            health or LocalHealth(()),
            connect=network({"lb": balancer}).connect,
            backoff=backoff or Backoff(rng=Shortest()),
            **more,
        )
        nursery.start_soon(client.run)
        return client

    return _start


@pytest.mark.parametrize(
    ("address", "name"),
    [({"ip": "fd00:1::2"}, "[fd00:1::2]:7070"), ({"hostname": "lb-0.local"}, "lb-0.local:7070")],
)
def test_a_balancer_is_named_by_where_it_listens(make_config, address, name):
    settings = make_config(["lb"]).node
    client = BalancerClient(BalancerAddress(**address), settings, LocalHealth(()))

    assert name == client.name


async def test_reports_three_times_per_timeout(start, balancer, autojump_clock, nursery):
    start()
    await trio.sleep(9.9)

    assert [0, 5 / 3, 10 / 3, 5, 20 / 3, 25 / 3] == pytest.approx(balancer.times)
    assert {0} == set(balancer.statuses)
    assert {"web"} == {report.name for _, report in balancer.reports}


async def test_reports_faster_until_routable(start, balancer, autojump_clock, nursery):
    balancer.state = "probation"
    start()
    await trio.sleep(0.9)
    balancer.state = "routable"
    await trio.sleep(3.9)

    assert [0, 0.5, 1.0, 1.0 + 5 / 3, 1.0 + 10 / 3] == pytest.approx(balancer.times)


async def test_a_change_is_reported_at_once(start, balancer, autojump_clock, nursery):
    health = LocalHealth(())
    start(health)
    await trio.sleep(0.2)
    health.leave()
    await trio.testing.wait_all_tasks_blocked()

    assert [0, 2] == balancer.statuses
    assert [0, 0.2] == pytest.approx(balancer.times)


async def test_a_lost_balancer_is_found_again_quickly(start, balancer, autojump_clock, nursery):
    client = start()
    await trio.sleep(10.1)
    balancer.die()
    await trio.sleep(0.3)

    assert 2 == len(balancer.connects)
    assert 10.2 == pytest.approx(balancer.times[-1], abs=0.01)
    assert client.answer is not None


async def test_tries_for_ever_with_longer_waits(start, balancer, autojump_clock, nursery):
    balancer.refuses = True
    start()
    await trio.sleep(60)

    waits = [b - a for a, b in zip(balancer.connects, balancer.connects[1:], strict=False)]
    assert [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5] == pytest.approx(waits[:9])
    assert 5 == pytest.approx(max(waits))


async def test_is_back_within_the_time_for_which_a_restart_adopts_nodes(
    start, balancer, autojump_clock, nursery
):
    balancer.timeout_s = 1.0
    start()
    await trio.sleep(5)
    balancer.refuses = True
    balancer.die()
    await trio.sleep(60)

    waits = [b - a for a, b in zip(balancer.connects, balancer.connects[1:], strict=False)]
    assert 0.5 == pytest.approx(max(waits[1:]))


async def test_short_lived_connections_do_not_reset_the_waits(
    start, balancer, autojump_clock, nursery
):
    balancer.fails_with = "sorry"
    start()
    await trio.sleep(60)

    waits = [b - a for a, b in zip(balancer.connects, balancer.connects[1:], strict=False)]
    assert 2.5 == pytest.approx(waits[-1])


async def test_trouble_is_logged_once(start, balancer, autojump_clock, nursery):
    balancer.refuses = True
    with capture_logs() as logs:
        start()
        await trio.sleep(60)
        balancer.refuses = False
        await trio.sleep(10)

    assert ["balancer_unreachable", "balancer_connected", "balancer_sees_node"] == [
        entry["event"] for entry in logs if entry["event"].startswith("balancer")
    ]
    assert "cannot connect: Connection refused" == logs[0]["reason"]


async def test_a_balancer_that_vanished_is_found_by_ping(
    nursery, balancer, autojump_clock, make_config
):
    """The connection hangs: nothing arrives and nothing is refused."""
    connects = []

    async def connect(host, port):
        await trio.lowlevel.checkpoint()
        connects.append(trio.current_time())
        ours, theirs = trio.testing.memory_stream_pair()
        if len(connects) == 1:
            nursery.start_soon(balancer.serve, theirs)

            async def cut():
                await trio.sleep(10)
                theirs.send_stream.send_all_hook = trio.sleep_forever

            nursery.start_soon(cut)
        else:
            balancer.keep = theirs
        return ours

    config = make_config(["lb"])
    client = BalancerClient(
        config.load_balancer.addresses[0], config.node, LocalHealth(()), connect=connect
    )
    nursery.start_soon(client.run)
    await trio.sleep(25)

    assert len(connects) >= 2
    assert connects[1] <= 10 + 2 + 2 + 3 + 0.2
    nursery.cancel_scope.cancel()


async def test_nothing_is_reported_before_the_checks_are_known(
    start, balancer, autojump_clock, nursery, make_config
):
    config = make_config(["lb"], [{"name": "c", "type": "tcp", "target": "127.0.0.1:80"}])
    health = LocalHealth(config.checks)
    start(health)
    await trio.sleep(5)
    before = list(balancer.connects)
    health.failed("c", "refused")
    await trio.sleep(1)

    assert [] == before
    assert (1, "c: refused") == (balancer.reports[0][1].status, balancer.reports[0][1].message)


async def test_a_balancer_that_only_listens_is_fine(start, balancer, autojump_clock, nursery):
    balancer.answers = False
    start()
    await trio.sleep(60)

    assert 1 == len(balancer.connects)
    assert len(balancer.reports) > 30


async def test_cancellation_leaves_no_connection(balancer, network, make_config, nursery):
    config = make_config(["lb"])
    for _ in range(3):
        client = BalancerClient(
            config.load_balancer.addresses[0],
            config.node,
            LocalHealth(()),
            connect=network({"lb": balancer}).connect,
        )
        async with trio.open_nursery() as inner:
            inner.start_soon(client.run)
            await trio.testing.wait_all_tasks_blocked()
            inner.cancel_scope.cancel()

    await trio.testing.wait_all_tasks_blocked()
    assert 0 == balancer.server.connections


def test_advice_is_bounded_below():
    advice = Advice.decode(b"")

    assert advice.period(joining=True) > 0.01


def test_at_least_two_reports_fit_into_every_timeout():
    advice = Advice(checks_timeout=1.0)

    assert advice.period(joining=False) <= 0.5
    assert advice.period(joining=True) <= 0.5


@pytest.mark.parametrize("decode", [Advice.decode, Answer.decode])
def test_answers_that_are_no_messages_are_errors(decode):
    with pytest.raises(CallError, match="the answer of the balancer is not a"):
        decode(b"\xff\xff\xff")


def test_a_report_carries_what_the_node_is():
    from galelb.grpc.health_pb2 import HealthStatus

    settings = NodeSettings(name="web", weight=0, services=("a", "b"))
    report = HealthStatus.FromString(encode_report(settings, 1, "why"))

    assert (1, "why", "web", 0, ["a", "b"]) == (
        report.status,
        report.message,
        report.name,
        report.weight,
        list(report.services),
    )
    assert report.HasField("weight")


async def test_what_is_advised_is_done_before_the_first_report(
    start, balancer, autojump_clock, nursery
):
    told = []

    async def prepare(name, advice):
        await trio.sleep(1.5)
        told.append((name, [(one.kind, one.vip) for one in advice.setups], len(balancer.reports)))

    balancer.vips = ("192.0.2.1",)
    start(prepare=prepare)
    await trio.sleep(4)

    assert [("lb:7070", [("vip_on_lo", "192.0.2.1")], 0)] == told
    assert balancer.times[0] == pytest.approx(1.5)


async def test_a_balancer_that_changed_is_asked_again(start, balancer, autojump_clock, nursery):
    told = []

    async def prepare(name, advice):
        await trio.lowlevel.checkpoint()
        told.append([one.vip for one in advice.setups])

    start(prepare=prepare)
    await trio.sleep(4)
    balancer.vips = ("192.0.2.1", "2001:db8::1")
    await trio.sleep(4)

    assert [[], ["192.0.2.1", "2001:db8::1"]] == told


async def test_a_node_whose_machine_lacks_something_does_not_serve(
    start, balancer, autojump_clock, nursery
):
    health = LocalHealth(())
    start(health)
    await trio.sleep(1)
    health.host_lacks("host: no VIP")
    await trio.sleep(1)
    health.host_lacks("")
    await trio.sleep(1)

    assert [0, 1, 0] == balancer.statuses[:3]
    assert "host: no VIP" == balancer.reports[1][1].message
