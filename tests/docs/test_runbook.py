# SPDX-License-Identifier: Apache-2.0
"""The runbook quotes what galelb says, and leaves no reason out that wants a look."""

import pytest

from galelb.abi import Reason

from .pages import ROOT

PAGE = (ROOT / "docs" / "how-to" / "runbook.md").read_text()
SOURCE = "\n".join(
    path.read_text() for folder in ("galelb", "plugins") for path in (ROOT / folder).rglob("*.py")
)
NORMAL = {"icmp_unknown", "node_gone", "flow_busy", "reset_sent"}
"""Dropped or answered in normal operation, and over by itself."""


@pytest.mark.parametrize(
    "phrase",
    [
        "NOT forwarding: ",
        "Forwarding, but not everything",
        "an instance is running in ",
        "cannot change while running",
        "configuration refused: ",
        "cut off from the group",
        "grpc_refused",
        "balancer_unreachable",
        "is no address of this machine: ",
        "it has stopped or crashed",
        "it was never heard",
        "its connection ended",
        "its open connections are cut",
        "listens at ",
        "no report for ",
        "no routable node",
        "not attached to ",
        "not_reloaded",
        "pins_without_state",
        "the group takes it for ",
        "waiting for a quorum",
    ],
)
def test_what_the_runbook_quotes_is_what_galelb_says(phrase: str) -> None:
    assert phrase in PAGE
    assert phrase in SOURCE


@pytest.mark.parametrize(
    "reason", [r.name.lower() for r in Reason if r.kind != "expected"], ids=str
)
def test_every_reason_that_wants_a_look_is_in_the_runbook(reason: str) -> None:
    assert reason in NORMAL or f"`{reason}`" in PAGE
