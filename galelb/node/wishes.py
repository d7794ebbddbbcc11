# SPDX-License-Identifier: Apache-2.0
"""What balancers want of this machine, as far as it makes sense."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import ip_address

import attrs
import structlog

from galelb.model import IPAddress
from galelb.node.tunnels import End
from galelb.node.wire import DECAP_GUE, DECAP_IPIP, VIP_ON_LO, Advice, Setup

__all__ = ["Wishes", "read_wishes"]

log = structlog.get_logger(__name__)


@attrs.frozen(kw_only=True)
class Wishes:
    """What one balancer wants, or all of them together."""

    vips: frozenset[IPAddress] = frozenset()
    """To be held on lo."""
    tunnels: frozenset[End] = frozenset()
    """VIPs that packets come to in tunnels."""
    balancers: frozenset[IPAddress] = frozenset()
    """Where those tunnels come from."""

    def __bool__(self) -> bool:
        return bool(self.vips or self.tunnels)

    @property
    def served(self) -> frozenset[IPAddress]:
        """All VIPs."""
        return self.vips.union(end.address for end in self.tunnels)

    @classmethod
    def together(cls, wishes: Iterable[Wishes]) -> Wishes:
        """Return what fulfils all of them."""
        every = tuple(wishes)
        return cls(
            vips=frozenset(vip for one in every for vip in one.vips),
            tunnels=frozenset(end for one in every for end in one.tunnels),
            balancers=frozenset(address for one in every for address in one.balancers),
        )


def read_wishes(advice: Advice, not_vips: Collection[str]) -> Wishes:
    """Return what an advice asks for; what is refused is logged.

    `not_vips`: the balancers' own addresses as text, which this machine must not take.
    """
    vips, tunnels = set(), set()
    for setup in advice.setups:
        vip = _vip(setup, not_vips)
        if vip is not None and setup.kind == VIP_ON_LO:
            vips.add(vip)
        elif vip is not None and setup.kind == DECAP_IPIP:
            tunnels.add(End(vip))
        elif vip is not None and setup.kind == DECAP_GUE and 0 < setup.port < 1 << 16:
            tunnels.add(End(vip, setup.port))
        else:
            log.warning("setup_refused", kind=setup.kind, vip=setup.vip, port=setup.port)
    sources = {advice.source} if tunnels and advice.source else ()
    return Wishes(vips=frozenset(vips), tunnels=frozenset(tunnels), balancers=frozenset(sources))


def _vip(setup: Setup, not_vips: Collection[str]) -> IPAddress | None:
    try:
        vip = ip_address(setup.vip)
    except ValueError:
        return None
    if str(vip) in not_vips or vip.is_multicast or vip.is_unspecified or vip.is_loopback:
        return None
    return vip
