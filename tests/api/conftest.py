# SPDX-License-Identifier: Apache-2.0
"""A client that speaks to the application without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from galelb.api.app import create_app
from galelb.api.auth import AllowAll
from galelb.testing.fakes import FakeBalancer


@pytest.fixture
def balancer() -> FakeBalancer:
    return FakeBalancer()


@pytest.fixture
async def client(balancer: FakeBalancer) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(balancer, AllowAll()))
    async with httpx.AsyncClient(transport=transport, base_url="http://galelb") as client:
        yield client
