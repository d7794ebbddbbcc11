# SPDX-License-Identifier: Apache-2.0
"""What a group of balancers makes of a node, beside what this balancer sees itself."""

from __future__ import annotations

import attrs

from galelb.model import NodeState

__all__ = ["Agreed"]


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
