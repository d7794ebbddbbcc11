# SPDX-License-Identifier: Apache-2.0
"""Reference models: the data path in plain Python, one part for all forwarders, one for each."""

from galelb.testing.model.forwarders import (
    BridgeModel,
    ForwarderModel,
    Packet,
    RouteModel,
    one_hop_less,
)
from galelb.testing.model.nat import KnownFlow, NatModel
from galelb.testing.model.pipeline import ReferenceModel
from galelb.testing.model.values import Arrived, Fate, Prediction

__all__ = [
    "Arrived",
    "BridgeModel",
    "Fate",
    "ForwarderModel",
    "KnownFlow",
    "NatModel",
    "Packet",
    "Prediction",
    "ReferenceModel",
    "RouteModel",
    "one_hop_less",
]
