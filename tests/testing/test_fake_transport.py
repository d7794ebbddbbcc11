# SPDX-License-Identifier: Apache-2.0
"""The fake keeps the promises of a sync transport, in virtual time."""

from contextlib import asynccontextmanager

import pytest

from galelb.testing.contract.transport import SyncTransportContract
from galelb.testing.fake_transport import FakeNetwork, FakeTransport


@pytest.mark.usefixtures("autojump_clock")
class TestContract(SyncTransportContract):
    transport = FakeTransport

    @pytest.fixture(autouse=True)
    def _network(self):
        self.net = FakeNetwork()

    def options(self, directory, name):
        return self.net

    @asynccontextmanager
    async def network(self, directory):
        yield

    async def cut(self, name):
        self.net.cut(name)

    async def heal(self, name):
        self.net.heal(name)
