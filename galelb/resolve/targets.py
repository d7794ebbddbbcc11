# SPDX-License-Identifier: Apache-2.0
"""Who sends frames to which neighbour, and which neighbours the kernel was made to keep; no I/O."""

from __future__ import annotations

from galelb.model import IPAddress

__all__ = ["Target", "Targets"]

Target = tuple[int, IPAddress]
"""(interface, address) that frames are sent to: a node's own address, or its gateway's."""


class Targets:
    """Each node has at most one target; a target that loses its last node can be released."""

    def __init__(self) -> None:
        self._of_node: dict[IPAddress, Target] = {}
        self._nodes: dict[Target, set[IPAddress]] = {}
        self._kept: set[Target] = set()
        self._unused: set[Target] = set()

    def aim(self, node: IPAddress, target: Target | None) -> bool:
        """Note where a node's frames go, None = nowhere; return whether that changed."""
        old = self._of_node.get(node)
        if old == target:
            return False
        if old is not None:
            del self._of_node[node]
            self._nodes[old].discard(node)
            if not self._nodes[old]:
                del self._nodes[old]
                if old in self._kept:
                    self._unused.add(old)
        if target is not None:
            self._of_node[node] = target
            self._nodes.setdefault(target, set()).add(node)
            self._unused.discard(target)
        return True

    def nodes(self, target: Target) -> tuple[IPAddress, ...]:
        """Return the nodes whose frames go there."""
        return tuple(self._nodes.get(target, ()))

    def keep(self, target: Target) -> None:
        """Note that the kernel was made to keep this neighbour."""
        self._kept.add(target)

    def is_kept(self, target: Target) -> bool:
        """Return whether the kernel was made to keep this neighbour."""
        return target in self._kept

    def take_unused(self) -> Target | None:
        """Return a kept target that no node needs any more, to be released; None = no more."""
        if not self._unused:
            return None
        target = self._unused.pop()
        self._kept.discard(target)
        return target
