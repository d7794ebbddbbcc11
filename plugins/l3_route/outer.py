# SPDX-License-Identifier: Apache-2.0
"""What outer packets come from, and how long their headers are."""

from __future__ import annotations

from ipaddress import ip_address

import attrs
from galelb_plugins.l3_route.options import L3RouteOptions

from galelb.forwarder import HostView
from galelb.model import IPAddress
from galelb.packing import address_words

__all__ = ["Outer", "outer_address", "outer_bytes", "outer_source"]

_IP = {4: 20, 6: 40}
_UDP = 8
_WORD = 32


@attrs.frozen
class Outer:
    """An address and which bits of its last 32 vary with the flow.

    `words` are those of `galelb.packing.address_words`, `vary` is a mask in host order.
    """

    words: tuple[int, ...]
    vary: int


def outer_bytes(encap: str, version: int) -> int:
    """Return how long the headers are that go before a packet to a node of that family."""
    if encap == "none":
        return 0
    return _IP[version] + (_UDP if encap == "gue" else 0)


def outer_source(options: L3RouteOptions, host: HostView, version: int) -> Outer | None:
    """Return what packets to nodes of that family come from; None = there is no address."""
    for prefix in options.outer_source:
        if prefix.version == version:
            bits = min(prefix.max_prefixlen - prefix.prefixlen, _WORD)
            return Outer(_words(prefix.network_address), (1 << bits) - 1)
    for address in host.private.addresses:
        if address.version == version and not address.is_link_local:
            return Outer(_words(address), 0)
    return None


def outer_address(source: Outer, version: int, seed: int) -> IPAddress:
    """Return the address that the program writes for a flow with this seed."""
    packed = b"".join(word.to_bytes(4, "little") for word in source.words)
    number = int.from_bytes(packed, "big") | seed & source.vary
    return ip_address(number.to_bytes(_BYTES[version], "big"))


_BYTES = {4: 4, 6: 16}


def _words(address: IPAddress) -> tuple[int, ...]:
    return address_words(address)[: 1 if address.version == 4 else 4]
