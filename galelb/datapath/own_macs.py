# SPDX-License-Identifier: Apache-2.0
"""Tells programs our interfaces' MAC addresses, so that they leave other machines' frames alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from galelb.bpf.pipeline import OWN_MACS
from galelb.forwarder import BpfMap
from galelb.model import Interface

__all__ = ["write_own_macs"]

_MAP = "gale_own_macs"


def write_own_macs(maps: Mapping[str, BpfMap], interfaces: Iterable[Interface]) -> None:
    """Write them where programs look (bpf/own.h); nothing where they do not. Blocks.

    Raises MapError.
    """
    table = maps.get(_MAP)
    if table is None:
        return
    leaves: dict[int, dict[str, Any]] = {}
    for one in interfaces:
        mac = bytes.fromhex(one.mac.replace(":", ""))
        leaf = {"ifindex": one.ifindex, "mac": mac, "pad": 0}
        leaves.setdefault(one.ifindex % OWN_MACS, leaf)
    for place, leaf in leaves.items():
        table.set(place, leaf)
