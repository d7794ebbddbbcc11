# SPDX-License-Identifier: Apache-2.0
"""l4_nat keeps the contract of forwarders, in both modes."""

from __future__ import annotations

from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.plugin import L4Nat

from galelb.forwarder import Forwarder
from galelb.testing.contract import ForwarderContract
from galelb.testing.model import ForwarderModel, NatModel

NAMES = ["tcp_established", "tcp_syn", "tcp_fin", "udp", "udp_unreplied"]
FOREVER = {f"{name}_timeout": 8 * 3600.0 for name in NAMES}
"""The model knows no time."""


class NatContract(ForwarderContract):
    forwarder = L4Nat
    model = NatModel
    target_offset = 8000
    mode = ""

    def make_forwarder(self) -> Forwarder:
        return L4Nat(L4NatOptions(mode=self.mode, max_flows=16384, max_slices=32, **FOREVER))

    def make_model(self) -> ForwarderModel:
        return NatModel(full_nat=self.mode == "full_nat")


class TestL4NatFull(NatContract):
    mode = "full_nat"


class TestL4NatDnat(NatContract):
    mode = "dnat"
