# SPDX-License-Identifier: Apache-2.0
"""The file that bird includes: one protocol for each VIP, no more; knows no files.

A `direct` protocol has a route for as long as the kernel has the address. So bird withdraws a VIP
by itself when a balancer was killed and the lifetime of the address is over. One protocol for each,
since bird starts a protocol anew when its interfaces or import filter change, which would withdraw
all VIPs for a moment.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection
from ipaddress import ip_address

from galelb.announcer import Held
from galelb.model import IPAddress

__all__ = ["protocol_name", "read", "render"]

_HEAD = """\
# Written by galelb (announce_bgp), which replaces it. Do not edit.
"""
_PREFERENCE = 250
"""Above that of another `direct` protocol (240), whose routes are not to be announced."""
_LINE = re.compile(r"^protocol direct galelb_\w+ .* interface ([0-9a-f.:]+)/", re.MULTILINE)


def protocol_name(address: IPAddress) -> str:
    """Return the name of a VIP's protocol, the same for the same address."""
    return "galelb_" + re.sub(r"[.:]", "_", str(address))


def render(vips: Collection[Held]) -> str:
    """Return the text of the file; the same for the same VIPs, in whatever order."""
    return _HEAD + "".join(sorted({_protocol(vip.address) for vip in vips}))


def read(text: str) -> list[IPAddress]:
    """Return the VIPs in a file; what was not written by `render` is skipped."""
    found = []
    for address in _LINE.findall(text):
        with contextlib.suppress(ValueError):
            found.append(ip_address(address))
    return found


def _protocol(address: IPAddress) -> str:
    # The route is the prefix that the address has on its interface: a VIP within the network of
    # an interface must not announce all of that.
    net = f"{address}/{address.max_prefixlen}"
    channel = f"ipv{address.version} {{ preference {_PREFERENCE}; import where net = {net}; }};"
    name = protocol_name(address)
    return f"protocol direct {name} {{ {channel} interface {net}; }}\n"
