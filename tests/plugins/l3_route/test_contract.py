# SPDX-License-Identifier: Apache-2.0
"""l3_route keeps the contract of forwarders, with each way of wrapping packets."""

from __future__ import annotations

from galelb_plugins.l3_route.options import L3RouteOptions
from galelb_plugins.l3_route.plugin import L3Route

from galelb.forwarder import Forwarder
from galelb.testing.contract import ForwarderContract
from galelb.testing.model import ForwarderModel, RouteModel


class RouteContract(ForwarderContract):
    forwarder = L3Route
    model = RouteModel
    options = L3RouteOptions()

    def make_forwarder(self) -> Forwarder:
        return L3Route(self.options)

    def make_model(self) -> ForwarderModel:
        prefixes = tuple(str(prefix) for prefix in self.options.outer_source)
        return RouteModel(self.options.encap, port=self.options.gue_port, prefixes=prefixes)


class TestL3RouteIpip(RouteContract):
    options = L3RouteOptions(encap="ipip")


class TestL3RouteGue(RouteContract):
    options = L3RouteOptions(
        encap="gue", gue_port=6090, outer_source=("10.200.0.0/16", "fd00:200::/96")
    )


class TestL3RouteNone(RouteContract):
    options = L3RouteOptions(encap="none")
