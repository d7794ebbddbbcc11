# SPDX-License-Identifier: Apache-2.0
"""Large transfers arrive byte for byte."""

import pytest

from galelb.lab.clients import collect
from galelb.lab.http_client import Target
from galelb.lab.jobs import Downloads
from galelb.lab.session import open_lab
from galelb.lab.state import new_spec

SIZE = 200_000_000


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
async def test_a_large_download_is_identical(family: str) -> None:
    async with open_lab(new_spec(ipv4=family == "ipv4", ipv6=family == "ipv6")) as state:
        (vip,) = state.plan.vips
        target = Target(vip.address, vip.port)
        job = Downloads(targets=(target,), size=SIZE, read_timeout_s=20)
        (result,) = await collect(state.plan.host("client1"), [job])

    assert (result.error, result.size) == (None, SIZE)
