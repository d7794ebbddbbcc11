# SPDX-License-Identifier: Apache-2.0
"""Samples of a small balancer, as its API has them."""

import pytest

from galelb.top.values import Sample

STATUS = {
    "ready": True,
    "not_ready_reason": "",
    "version": "0.1.0",
    "instance": "default",
    "uptime_s": 8040.0,
    "flows": 1234,
    "event_loop_lag_s": 0.0021,
    "reasons": {},
}
EVENT = {
    "id": "1-1",
    "time": "2026-11-25T12:00:00.000Z",
    "event": "node_state",
    "node": "10.0.0.13",
    "name": "web-3",
    "old_state": "routable",
    "state": "down",
    "reason": "no report for 5 s",
    "draining": False,
    "weight": 1,
    "neighbour": None,
}


def node(last, packets=0, **more):
    return {
        "address": f"10.0.0.{last}",
        "name": f"web-{last - 10}",
        "state": "routable",
        "draining": False,
        "takes_new_flows": True,
        "weight": 1,
        "effective_weight": 1,
        "unroutable_reason": "",
        "packets": packets,
        "bytes": 100 * packets,
        **more,
    }


def service(name="web", packets=0, **more):
    return {
        "name": name,
        "vip": "192.0.2.10",
        "port": 80,
        "protocol": "tcp",
        "routable_nodes": 2,
        "packets": packets,
        "bytes": 100 * packets,
        **more,
    }


def sample(at=0.0, nodes=(), services=(), events=(), **status):
    return Sample(
        at=at,
        status=STATUS | status,
        nodes=list(nodes),
        services=list(services),
        events=list(events),
    )


class Scene:
    """The makers above, for tests."""

    node = staticmethod(node)
    service = staticmethod(service)
    sample = staticmethod(sample)
    event = EVENT


@pytest.fixture
def make():
    return Scene
