# SPDX-License-Identifier: Apache-2.0
"""The file that bird includes: one protocol for each VIP, no more; knows no files.

A `direct` protocol has a route for as long as the kernel has the address. So bird withdraws a VIP
by itself when a balancer was killed and the lifetime of the address is over. One protocol for each,
since bird starts a protocol anew when its interfaces or import filter change, which would withdraw
all VIPs for a moment.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import ip_address

from galelb.announcer import Held, HeldKind
from galelb.model import IPAddress

__all__ = ["protocol_name", "read", "render"]

_HEAD = """\
# Written by galelb (announce_bgp), which replaces it. Do not edit.
"""
_PREFERENCE = 250
"""Above that of another `direct` protocol (240), whose routes are not to be announced."""
_PLAIN_NAME = re.compile(r"[\w.-]+", re.ASCII)
_LINE = re.compile(
    r'^protocol direct galelb_\w+ .* interface "([^"]+)" ([0-9a-f.:]+)/', re.MULTILINE
)


def protocol_name(address: IPAddress) -> str:
    """Return the name of a VIP's protocol, the same for the same address."""
    return "galelb_" + re.sub(r"[.:]", "_", str(address))


def render(vips: Collection[Held]) -> str:
    """Return the text of the file; the same for the same VIPs, in whatever order."""
    # An address on two interfaces is one route.
    by_address = {vip.address: vip for vip in sorted(vips, key=str)}
    return _HEAD + "".join(sorted(map(_protocol, by_address.values())))


def read(text: str) -> list[Held]:
    """Return the VIPs in a file; what was not written by `render` is skipped."""
    found = []
    for name, address in _LINE.findall(text):
        try:
            held = Held(address=ip_address(address), interface=name, kind=HeldKind.VIP)
        except ValueError:
            continue
        found.append(held)
    return found


def _protocol(vip: Held) -> str:
    address = vip.address
    # Bird takes the name as a pattern; the address alone is enough where that could be misread.
    interface = vip.interface if _PLAIN_NAME.fullmatch(vip.interface) else "*"
    channel = f"ipv{address.version} {{ preference {_PREFERENCE}; }};"
    where = f'interface "{interface}" {address}/{address.max_prefixlen};'
    return f"protocol direct {protocol_name(address)} {{ {channel} {where} }}\n"
