# SPDX-License-Identifier: Apache-2.0
"""l2_bridge keeps the contract of forwarders."""

from __future__ import annotations

from galelb_plugins.l2_bridge.plugin import L2Bridge

from galelb.testing.contract import ForwarderContract
from galelb.testing.model import BridgeModel


class TestL2Bridge(ForwarderContract):
    forwarder = L2Bridge
    model = BridgeModel
