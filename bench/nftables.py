# SPDX-License-Identifier: Apache-2.0
"""What many would use instead: nftables, DNAT by a hash of the flow and masquerading."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from galelb.datapath.sandbox import NsThread

__all__ = ["nftables"]

_TABLE = "galelb_bench"


@contextlib.contextmanager
def nftables(
    net: NsThread, vip: tuple[str, int, str], nodes: Sequence[str], out: str
) -> Iterator[None]:
    """Send a VIP's packets (address, port, protocol) to nodes; answers come back this way."""
    with tempfile.NamedTemporaryFile("w", prefix="galeb-", suffix=".nft") as file:
        file.write(_rules(vip, nodes, out))
        file.flush()
        net.command("nft", "-f", str(Path(file.name)))
    try:
        yield
    finally:
        net.command("nft", "delete", "table", "ip", _TABLE)


def _rules(vip: tuple[str, int, str], nodes: Sequence[str], out: str) -> str:
    address, port, protocol = vip
    numbered = ", ".join(f"{number} : {node}" for number, node in enumerate(nodes))
    choice = f"jhash ip saddr . {protocol} sport mod {len(nodes)} seed 0x6a1e map {{ {numbered} }}"
    return f"""
table ip {_TABLE} {{
	chain prerouting {{
		type nat hook prerouting priority dstnat;
		ip daddr {address} {protocol} dport {port} dnat to {choice}
	}}
	chain postrouting {{
		type nat hook postrouting priority srcnat;
		oifname "{out}" masquerade
	}}
}}
"""
