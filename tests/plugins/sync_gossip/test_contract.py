# SPDX-License-Identifier: Apache-2.0
"""sync_gossip keeps what every sync transport promises."""

import contextlib

import members
from galelb_plugins.sync_gossip.options import GossipOptions
from galelb_plugins.sync_gossip.plugin import SyncGossip

from galelb.testing.contract.transport import SyncTransportContract


class Cuttable(SyncGossip):
    """A transport that can be found by name, and is cut off from its start if that name is."""

    by_name, cut_off = {}, set()

    def __init__(self, options, context):
        super().__init__(options, context)
        self.by_name[context.name] = self._member
        if context.name in self.cut_off:
            members.cut(self._member)


class TestContract(SyncTransportContract):
    transport = Cuttable

    def options(self, directory, name):
        return GossipOptions(probe_interval=0.1)

    @contextlib.asynccontextmanager
    async def network(self, directory):
        Cuttable.by_name.clear()
        Cuttable.cut_off.clear()
        yield

    async def cut(self, name):
        Cuttable.cut_off.add(name)
        if name in Cuttable.by_name:
            members.cut(Cuttable.by_name[name])

    async def heal(self, name):
        Cuttable.cut_off.discard(name)
        members.heal(Cuttable.by_name[name])
