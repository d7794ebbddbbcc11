# SPDX-License-Identifier: Apache-2.0
"""Several forwarders and a few services in one text: the verifier takes what clang makes of each.

With few services matching is generated, and clang joins what the ways of two forwarders have in
common: programs that loaded alone were refused together.
"""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from galelb_plugins.l2_bridge.plugin import L2Bridge
from galelb_plugins.l3_route.options import L3RouteOptions
from galelb_plugins.l3_route.plugin import L3Route
from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.plugin import L4Nat

from galelb.bpf.pipeline import Context
from galelb.datapath.sandbox import Sandbox
from galelb.forwarder import Forwarder, Options
from galelb.model import Protocol, Service
from galelb.testing.packets import frame
from galelb.testing.runner import PacketRunner, Verdict
from galelb.testing.services import VIPS
from galelb.testing.world import build_world

pytestmark = pytest.mark.bpf

CLIENTS = {4: "203.0.113.9", 6: "2001:db8:f::9"}
SERVICES = 2
"""Of each forwarder and family."""
TOGETHER = {
    "bridge, nat": (L2Bridge(Options()), L4Nat(L4NatOptions(max_slices=64))),
    "route none, nat": (L3Route(L3RouteOptions(encap="none")), L4Nat(L4NatOptions(max_slices=64))),
    "route gue, dnat": (
        L3Route(L3RouteOptions(encap="gue")),
        L4Nat(L4NatOptions(max_slices=512, mode="dnat")),
    ),
    "all": (
        L2Bridge(Options()),
        L3Route(L3RouteOptions(encap="ipip")),
        L4Nat(L4NatOptions(max_slices=64)),
    ),
}


def services(forwarders: tuple[Forwarder, ...], versions: tuple[int, ...]) -> list[Service]:
    kinds = [(one, version) for one in forwarders for version in versions] * SERVICES
    return [
        Service(
            name=f"s{port}",
            vip=ip_address(VIPS[version]),
            port=port,
            protocol=Protocol.TCP,
            target_port=port + 1000 if one.stateful else port,
            forwarder=one.name,
        )
        for port, (one, version) in enumerate(kinds, 8000)
    ]


@pytest.mark.parametrize("context", ["xdp", "tc"])
@pytest.mark.parametrize("versions", [(4,), (4, 6)], ids=["ipv4", "both"])
@pytest.mark.parametrize("names", TOGETHER)
def test_forwarders_share_one_text(names: str, versions: tuple[int, ...], context: Context) -> None:
    forwarders = TOGETHER[names]
    made = services(forwarders, versions)
    with (
        Sandbox() as sandbox,
        PacketRunner(sandbox, build_world(sandbox), made, *forwarders, context=context) as runner,
    ):
        for one in made:
            client = CLIENTS[one.vip.version]
            sent = runner.run(frame(client, str(one.vip), 4000, one.port, flags="S"))
            assert sent.verdict in (Verdict.TX, Verdict.REDIRECT), one
