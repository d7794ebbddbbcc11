# SPDX-License-Identifier: Apache-2.0
"""What a node's machine is set up for, for people to look at."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from galelb.node.host_record import HostRecord
from galelb.node.wishes import Wishes

__all__ = ["HostState"]


@attrs.frozen(kw_only=True)
class HostState:
    """A moment's view; nothing of it blocks to be made."""

    configure: bool
    """Whether the agent may change the machine."""
    wanted: Wishes
    """What the balancers want, all together."""
    record: HostRecord
    """What was changed, and will be undone."""
    mend: tuple[str, ...]
    """Commands for what is missing, or sentences where no command helps."""
    unpacked: Mapping[str, int]
    """Packets that came in tunnels, by what became of them; empty without our program."""
