# SPDX-License-Identifier: Apache-2.0
"""A trace as a JSON object; docs/reference/trace.md has the keys."""

from __future__ import annotations

from typing import Any

import attrs

from galelb.trace.describe import Difference, difference
from galelb.trace.layers import Layer, layers
from galelb.trace.values import Trace

__all__ = ["trace_json"]

Json = dict[str, Any]


def trace_json(trace: Trace) -> Json:
    """Return one packet's trace; keys whose values are not known are null."""
    slot = trace.step("slot") or {}
    hop = trace.hop
    return {
        "index": trace.number - 1,
        "number": trace.number,
        "time": trace.time_ns / 1e9,
        "verdict": trace.verdict,
        "reason": trace.reason.name.lower() if trace.reason is not None else None,
        "service": trace.service.name if trace.service else None,
        "node": str(trace.node) if trace.node else None,
        "in_interface": trace.in_interface,
        "out_interface": trace.out_interface,
        "hash": slot.get("hash"),
        "slot": slot.get("slot"),
        "next_hop": attrs.asdict(hop) if hop else None,
        "problem": trace.problem or None,
        "notes": list(trace.notes),
        "packet": {"length": len(trace.frame), "layers": _layers(layers(trace.frame))},
        "out": _out(trace),
        "steps": [{"step": step.name, **step.facts} for step in trace.steps],
    }


def _layers(found: list[Layer]) -> list[Json]:
    return [{"layer": layer.name, **layer.fields} for layer in found]


def _out(trace: Trace) -> Json | None:
    """Return the frame as it left, with all of its bytes; null when it was not sent."""
    if trace.out is None:
        return None
    found = (
        difference(trace.frame, trace.out)
        if trace.same_packet
        else Difference(layers=layers(trace.out))
    )
    return {
        "length": len(trace.out),
        "layers": _layers(list(found.layers)),
        "changes": [attrs.asdict(change) for change in found.changes],
        "data": trace.out.hex(),
    }
