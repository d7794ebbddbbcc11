# SPDX-License-Identifier: Apache-2.0
"""Runs packets through the compiled program and the reference model, which must agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from galelb.testing.checksums import checksum_problems
from galelb.testing.corpus import runnable
from galelb.testing.dissect import describe, dissect
from galelb.testing.model import Prediction, ReferenceModel
from galelb.testing.runner import Outcome, PacketRunner, Verdict

__all__ = ["LEFT_OUT", "compare", "step"]

LEFT_OUT = "left out by the model"
SENT = (Verdict.TX, Verdict.REDIRECT)


def compare(
    runner: PacketRunner,
    model: ReferenceModel,
    frames: Iterable[tuple[bytes, str]],
    *,
    about: str = "",
) -> Counter[str]:
    """Run frames with their interfaces and return how often each reason was seen.

    The first difference fails, with the frame and `about` (a seed, say). Frames that the kernel
    does not take for a test run are left out.
    """
    seen: Counter[str] = Counter()
    # All in the sandbox's thread: one hand-over, not one per frame.
    runner.sandbox.run(lambda: _compare_here(runner, model, frames, about, seen))
    return seen


def _compare_here(
    runner: PacketRunner,
    model: ReferenceModel,
    frames: Iterable[tuple[bytes, str]],
    about: str,
    seen: Counter[str],
) -> None:
    for number, (data, ingress) in enumerate(frames):
        if not runnable(runner.context, data):
            continue
        prediction, outcome, problems = step(model, data, ingress, runner.run_inside)
        if problems:
            lines = (f"{about} frame {number} on {ingress}: {describe(data)}", data.hex())
            raise AssertionError("\n".join([*lines, *problems]))
        seen[LEFT_OUT if prediction is None else outcome.reason.name] += 1


def step(
    model: ReferenceModel, data: bytes, ingress: str, run: Callable[[bytes, str], Outcome]
) -> tuple[Prediction | None, Outcome, list[str]]:
    """Predict, run, compare; returns what was wrong last."""
    prediction = model.predict(data, ingress)
    outcome = run(data, ingress)
    problems = _broken(model, data, outcome)
    if prediction is not None:
        problems += model.check(prediction, outcome)
    return prediction, outcome, problems


def _broken(model: ReferenceModel, data: bytes, outcome: Outcome) -> list[str]:
    """Return what no forwarder may do, whatever the model knows."""
    if outcome.verdict is Verdict.PASS and outcome.data != data:
        return ["passed, but changed"]
    if outcome.verdict not in SENT or dissect(data) is None or checksum_problems(data):
        return []
    return [one for one in checksum_problems(model.bare(outcome)) if "inner" not in one]
