# SPDX-License-Identifier: Apache-2.0
"""What a group of balancers makes of a node, beside what this balancer sees itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import attrs

from galelb.model import IPAddress, NodeState

if TYPE_CHECKING:
    from galelb.health.machine import NodeMachine

__all__ = ["UNHEARD", "Agreed", "new_words"]

UNHEARD = "it does not report to this balancer"
"""The reason of nodes that only peers hear."""


@attrs.define(kw_only=True)
class Agreed:
    """The group's word on a node."""

    routable: bool | None = None
    """None = there is no group, or it has not said anything: this balancer's own view counts."""
    heard: bool = True
    """Whether this balancer has a view of its own: the node reported to it, or is configured."""

    def note(self, state: NodeState) -> str:
        """Return what to add to the reason of this state; empty where both say the same."""
        if self.routable is None or self.routable is (state is NodeState.ROUTABLE):
            return ""
        return f"the group takes it for {'routable' if self.routable else 'down'}"


def new_words(
    machines: Iterable[NodeMachine], verdicts: Mapping[IPAddress, bool], *, adopting: bool
) -> list[tuple[NodeMachine, bool | None]]:
    """Return the nodes of which the group says something else now.

    None = it says nothing, and the balancer's own view counts.

    `adopting`: the balancer has just started and the group may not have spoken yet, so adopted
    nodes that have not reported yet keep the group's word from before.
    """
    words = ((machine, verdicts.get(machine.node.address)) for machine in machines)
    return [
        (machine, word)
        for machine, word in words
        if machine.agreed.routable is not word
        and not (word is None and adopting and machine.adopted_until is not None)
    ]
