# SPDX-License-Identifier: Apache-2.0
"""sync_etcd keeps the promises of a sync transport, over a real etcd."""

from contextlib import asynccontextmanager

import pytest
import trio
from etcd_server import Door, running_etcd
from galelb_plugins.sync_etcd.plugin import SyncEtcd

from galelb.group.key_file import create_keys, write_keys
from galelb.testing.contract.transport import SyncTransportContract


class TestContract(SyncTransportContract):
    transport = SyncEtcd
    limit_s = 120.0

    @pytest.fixture(autouse=True)
    def _doors(self, tmp_path):
        self.doors = {name: Door(None) for name in "abcd"}
        write_keys(tmp_path / "keys", create_keys(), new=True)

    def options(self, directory, name):
        keys = directory / "keys"
        return SyncEtcd.Options(
            endpoints=[self.doors[name].url], group_key_file=keys, lease_ttl="2s"
        )

    @asynccontextmanager
    async def network(self, directory):
        async with running_etcd(directory) as etcd, trio.open_nursery() as nursery:
            for door in self.doors.values():
                door.target = etcd.port
                await nursery.start(door.run)
            yield
            nursery.cancel_scope.cancel()

    async def cut(self, name):
        self.doors[name].shut()

    async def heal(self, name):
        self.doors[name].open()
