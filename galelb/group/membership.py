# SPDX-License-Identifier: Apache-2.0
"""What the rest of a balancer sees of its group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from galelb.api.view import GroupStatus, PeerStatus
from galelb.model import IPAddress, Metric

__all__ = ["Membership"]


class Membership(Protocol):
    """The group, as operators are shown it and tell it what they want; nothing here blocks."""

    def status(self) -> GroupStatus:
        """Return this balancer's place in the group."""

    def peers(self) -> tuple[PeerStatus, ...]:
        """Return the others: those that are configured, then those that were heard besides."""

    def notes(self) -> Sequence[str]:
        """Return what `galelb status` should say, one sentence each."""

    def metrics(self) -> Sequence[Metric]:
        """Return the group's own metrics."""

    def decide(self, address: IPAddress, *, draining: bool, weight: int | None) -> None:
        """Tell the group what an operator wants of a node."""
