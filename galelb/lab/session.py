# SPDX-License-Identifier: Apache-2.0
"""Whole runs of the lab: up and left running, or up, demonstrated and removed again."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import trio
from rich.console import Console

from galelb.errors import ConfigError
from galelb.lab.answers import answers_of, can_count, count_answers
from galelb.lab.demo import Demo, problems_of
from galelb.lab.hosts import LAB_RUN_DIR, Role
from galelb.lab.interrupts import run_interruptibly, terminable
from galelb.lab.lab import build_lab, take_down
from galelb.lab.ready import start_lab, wait_routable
from galelb.lab.spec import LabSpec
from galelb.lab.state import LabState
from galelb.lab.tally import Tally
from galelb.lab.view import DemoView, final_table

__all__ = ["bring_up", "open_lab", "run_demo", "wait_until_used"]


def bring_up(spec: LabSpec) -> LabState:
    """Build a lab, wait until it works and leave it running; nothing remains on failure."""
    with terminable():
        state = build_lab(spec)
        try:
            run_interruptibly(partial(start_lab, state))
            state.kept = True
            state.save()
        except BaseException:
            take_down(state)
            raise
    return state


def run_demo(spec: LabSpec, *, as_json: bool) -> bool:
    """Run the demo in a lab of its own; returns whether all went well.

    With `as_json` standard output gets one JSON object and nothing else.
    """
    if spec.nodes < 2:
        raise ConfigError(["lab: nodes: the demo kills one, so it needs at least 2"])
    console = Console(stderr=as_json, highlight=False)
    with terminable():
        console.print("building the lab ...", markup=False)
        state = build_lab(spec)
        try:
            result = run_interruptibly(partial(_demo, state, console))
        finally:
            take_down(state)
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
    console.print(final_table(state.plan, result))
    return not problems_of(result)


@contextlib.asynccontextmanager
async def open_lab(spec: LabSpec, run_dir: Path = LAB_RUN_DIR) -> AsyncIterator[LabState]:
    """Have a working lab for a block of code; gone afterwards, whatever happens."""
    state = build_lab(spec, run_dir)
    try:
        await start_lab(state)
        yield state
    finally:
        take_down(state)


def wait_until_used(state: LabState) -> None:
    """Return once all balancers that run use all nodes that run."""
    run_interruptibly(partial(wait_routable, state))


async def _demo(state: LabState, console: Console) -> dict[str, Any]:
    await start_lab(state)
    plan, spec = state.plan, state.spec
    tally = Tally(node.name for node in plan.of(Role.NODE))
    counted = spec.direct and can_count()
    if counted:
        count_answers(plan)
    with DemoView(console, plan, tally) as view:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(view.keep_drawing)
            await Demo(state, tally, view.say).run()
            nursery.cancel_scope.cancel()
    for failure in (*tally.unexplained[:10], *tally.broken[:10], *tally.broken_held[:10]):
        console.print(f"failed: {failure.to_json()}", markup=False)
    counts = {"plugin": spec.plugin, "balancers": spec.balancers, "nodes": spec.nodes}
    result = counts | tally.to_json()
    if spec.direct:
        result["answers_past_balancer"] = answers_of(plan) if counted else None
        own, other = tally.seen_as[True], tally.seen_as[False]
        result["client_address_seen"] = {"own": own, "other": other}
    return result
