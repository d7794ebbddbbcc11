# SPDX-License-Identifier: Apache-2.0
"""What every forwarder promises, as a class of tests that its own tests inherit.

    class TestContract(ForwarderContract):
        forwarder = MyForwarder
        model = MyModel

`MyModel` says in a few lines of Python what the C does (galelb.testing.model). The tests need root
and run the compiled programs; each failure names the rule that is broken and shows the packet.
"""

import pytest

from galelb.testing.contract.datagrams import DatagramRules
from galelb.testing.contract.foreign import ForeignRules
from galelb.testing.contract.forwarding import ForwardingRules
from galelb.testing.contract.lifecycle import LifecycleRules
from galelb.testing.contract.nodes import NodeRules
from galelb.testing.contract.wires import WireRules

__all__ = ["ForwarderContract"]


@pytest.mark.bpf
class ForwarderContract(
    ForeignRules, ForwardingRules, DatagramRules, NodeRules, LifecycleRules, WireRules
):
    """All rules; fill in `forwarder` and `model`, see `galelb.testing.contract.stage.Stage`."""
