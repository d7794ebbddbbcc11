# SPDX-License-Identifier: Apache-2.0
"""What every forwarder promises, tried on sticky_bridge."""

from ipaddress import ip_network

from galelb_sticky import StickyBridge

from galelb.model import IPAddress
from galelb.testing.contract import ForwarderContract
from galelb.testing.model import BridgeModel


class StickyModel(BridgeModel):
    """What the C does, in Python: nothing in a packet changes, and the network is the client."""

    def node_key(self, client: IPAddress, port: int) -> tuple[IPAddress, int]:
        network = ip_network((client, {4: 32, 6: 64}[client.version]), strict=False)
        return network.network_address, 0


class TestContract(ForwarderContract):
    forwarder = StickyBridge
    model = StickyModel
