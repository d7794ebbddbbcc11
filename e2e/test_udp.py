# SPDX-License-Identifier: Apache-2.0
"""UDP queries are balanced, and answers come back from the VIP."""

import pytest

from galelb.lab.clients import collect
from galelb.lab.http_client import Target
from galelb.lab.jobs import Queries
from galelb.lab.session import open_lab
from galelb.lab.state import new_spec

QUERIES = 1000


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
async def test_every_query_is_answered(family: str) -> None:
    spec = new_spec(ipv4=family == "ipv4", ipv6=family == "ipv6", udp=True)
    async with open_lab(spec) as state:
        (vip,) = (vip for vip in state.plan.vips if vip.protocol == "udp")
        job = Queries(targets=(Target(vip.address, vip.port),), count=QUERIES)
        results = await collect(state.plan.host("client1"), [job])

    assert [result for result in results if result.error] == []
    assert len(results) == QUERIES
    assert {"node1", "node2", "node3"} == {result.node for result in results}
