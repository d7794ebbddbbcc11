# SPDX-License-Identifier: Apache-2.0
"""Prints a lab: a table for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from galelb.lab.state import LabState

__all__ = ["print_lab"]


def print_lab(state: LabState, *, as_json: bool) -> None:
    """Print every host with its files, the VIPs, and what to do next."""
    lab = state.public()
    if as_json:
        sys.stdout.write(json.dumps(lab, indent=2) + "\n")
        return
    console = Console(highlight=False)
    console.print(f"lab [bold]{lab['name']}[/] ({lab['plugin']}), files in {lab['directory']}")
    console.print(_hosts(lab))
    vip = lab["vips"][0]
    for entry in lab["vips"]:
        where = _authority(entry)
        console.print(f"VIP {where} {entry['protocol']}, service {entry['service']}")
    option = f" --name {lab['name']}"
    console.print(
        f"\ntry:   galelb lab exec{option} client1 -- curl -s http://{_authority(vip)}/",
        soft_wrap=True,
    )
    config = next(host["config"] for host in lab["hosts"] if host["role"] == "balancer")
    console.print(f"see:   galelb status --config {config}", soft_wrap=True)
    console.print(f"end:   galelb lab down {lab['name']}")


def _hosts(lab: dict[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for title in ("host", "namespace", "addresses", "processes"):
        table.add_column(title, overflow="fold")
    for host in lab["hosts"]:
        pids = " ".join(map(str, host["pids"])) or "-"
        processes = pids if host["running"] else f"[red]{pids} (not running)[/]"
        addresses = "\n".join(host["addresses"])
        table.add_row(host["name"], host["namespace"], addresses, processes)
    return table


def _authority(vip: dict[str, Any]) -> str:
    address = f"[{vip['address']}]" if ":" in vip["address"] else vip["address"]
    return f"{address}:{vip['port']}"
