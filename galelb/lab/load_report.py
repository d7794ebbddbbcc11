# SPDX-License-Identifier: Apache-2.0
"""`galelb lab load`: many open connections through a lab's VIPs, and what became of them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import click
import trio

from galelb.lab.clients import run_load
from galelb.lab.demo_jobs import targets_of
from galelb.lab.hosts import Host
from galelb.lab.interrupts import run_interruptibly, terminable
from galelb.lab.jobs import Held, Result
from galelb.lab.state import LabState

__all__ = ["hold_load", "report_of"]

_MESSAGE_BYTES = 16


def hold_load(state: LabState, client: Host, job: dict[str, Any], *, as_json: bool) -> bool:
    """Hold connections as one client of a lab and print what became of them.

    Returns whether none broke. With `as_json` standard output gets one JSON object alone.
    """
    results: list[Result] = []

    def take(result: Result) -> None:
        if result.kind == "opened":
            click.echo(f"{result.size} connections are open", err=True)
        else:
            results.append(result)

    held = Held(targets=targets_of(state.plan), **job)
    with terminable():
        run_interruptibly(partial(run_load, client, [held], take, trio.Event()))
    report = report_of(results)
    if as_json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        click.echo(_text(report))
    return not report["broken"]


def report_of(results: Sequence[Result]) -> dict[str, Any]:
    """Sum up held connections."""
    stalls = sorted(result.stall_s for result in results if result.error is None)
    return {
        "connections": len(results),
        "broken": sum(result.error is not None for result in results),
        "causes": dict(Counter(result.error for result in results if result.error is not None)),
        "messages": sum(result.size for result in results) // _MESSAGE_BYTES,
        "median_stall_s": stalls[len(stalls) // 2] if stalls else None,
        "longest_stall_s": stalls[-1] if stalls else None,
        "per_node": dict(sorted(Counter(result.node for result in results).items())),
    }


def _text(report: dict[str, Any]) -> str:
    causes = ", ".join(f"{cause} {count}" for cause, count in report["causes"].items())
    nodes = ", ".join(f"{node or 'nobody'} {count}" for node, count in report["per_node"].items())
    longest, median = report["longest_stall_s"], report["median_stall_s"]
    stalls = "none lived" if longest is None else f"longest {longest:.2f} s, median {median:.3f} s"
    return (
        f"{report['connections']} connections, {report['broken']} broken"
        f"{f' ({causes})' if causes else ''}; {report['messages']} messages came back\n"
        f"an answer took: {stalls}\n"
        f"per node: {nodes}"
    )
