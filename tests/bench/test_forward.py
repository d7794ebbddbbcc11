# SPDX-License-Identifier: Apache-2.0
"""The benchmark forward proves what it measures: right packets count, others are refused."""

import pytest

from bench.flows import NODES, PORT, VIP, node_numbers
from bench.machine import RefusedError
from bench.nftables import nftables
from bench.traffic import PRIVATE, Traffic, Wish

pytestmark = pytest.mark.netns

FLOWS = 1000
SERVICE = (VIP, PORT, "udp")
TRANSLATED = Wish(translated=True, echo=True)


@pytest.fixture(scope="module")
def traffic():
    with Traffic(FLOWS) as traffic:
        yield traffic


def test_every_flow_reaches_a_node_once_and_is_answered(traffic):
    with nftables(traffic.balancer, SERVICE, NODES, PRIVATE):
        traffic.prove(TRANSLATED)

        load = traffic.load(TRANSLATED, 0.01)

    assert node_numbers() == load.arrived.keys()
    assert load.sent >= sum(load.arrived.values()) > 0
    assert load.cpu_s > 0


@pytest.mark.parametrize("wish", [Wish(), Wish(tunnel=True)], ids=["to the VIP", "in a tunnel"])
def test_packets_that_are_not_as_wished_are_refused(traffic, wish):
    with (
        nftables(traffic.balancer, SERVICE, NODES, PRIVATE),
        pytest.raises(RefusedError, match=f"{FLOWS} packets arrived that were not as they should"),
    ):
        traffic.prove(wish)


def test_packets_for_nobody_are_refused(traffic):
    with traffic.redirected(), pytest.raises(RefusedError, match="not as they should be"):
        traffic.prove(Wish())


def test_packets_that_do_not_arrive_are_refused(traffic):
    with pytest.raises(RefusedError, match=f"0 of {FLOWS} packets arrived"):
        traffic.prove(TRANSLATED)
