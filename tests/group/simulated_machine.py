# SPDX-License-Identifier: Apache-2.0
"""What of a balancer outlives its daemon: the kernel with its programs, and the disk."""

import attrs

from galelb.flowshare import SourceAddress
from galelb.group.holder import LIFETIME_S, RENEW_S


@attrs.define
class Machine:
    """One machine; all times are those of the simulation."""

    name: str
    source: object
    """Its configured translation address."""
    on: bool = True
    boot: int = 0
    lent: dict = attrs.Factory(dict)
    """Addresses on interfaces, and when the kernel takes each away."""
    lease_until: float = float("-inf")
    flows: dict = attrs.Factory(dict)
    """What it has flows of: (address, boot of who made them), and since when."""
    health: list = attrs.Factory(list)
    decisions: dict = attrs.Factory(dict)

    def power_off(self):
        """Forget what no disk keeps."""
        self.on = False
        self.boot += 1
        self.lent, self.flows, self.lease_until = {}, {}, float("-inf")

    def holds(self, now):
        """Return the addresses that are on its interfaces."""
        return {address for address, until in self.lent.items() if until > now}

    def allocates(self, now):
        """Whether its programs make new flows."""
        return self.on and now < self.lease_until


class Share:
    """Stands for l4_nat's FlowShare."""

    def __init__(self, cluster, machine):
        self._cluster, self._machine = cluster, machine
        self._own = (SourceAddress(address=machine.source, first_port=1024, last_port=65535),)

    def own(self):
        return self._own

    def make_room(self, addresses):
        """Have room always."""

    def permit(self, seconds, *, whole):
        new = not self._machine.allocates(self._cluster.now)
        self._machine.lease_until = self._cluster.now + seconds
        if seconds:
            self._cluster.permitted(self._machine, new=new)


class Holder:
    """Stands for `AddressHolder`, and does what that does when it comes late."""

    def __init__(self, cluster, machine):
        self._cluster, self._machine = cluster, machine
        self._wanted = self.put = frozenset()
        self._renewed_at = cluster.now
        self._number = 0

    def hold(self, wanted):
        wanted = frozenset(one.address for one in wanted)
        if wanted != self._wanted:
            self._wanted = wanted
            self._soon(0.0)

    def start(self):
        self._soon(0.0)

    def let_go(self):
        """Take away what it put there, as a daemon does that ends."""
        self._number += 1
        for address in self.put:
            self._machine.lent.pop(address, None)

    def _soon(self, seconds):
        self._number += 1
        number = self._number

        def act():
            if number == self._number:
                self._once()

        self._cluster.later(self._machine.name, seconds, act)

    def _once(self):
        now = self._cluster.now
        late = now - self._renewed_at > LIFETIME_S and self.put
        self._renewed_at = now
        if late:
            self._soon(RENEW_S)
            return
        for address in self.put - self._wanted:
            self._machine.lent.pop(address, None)
        before = self._machine.holds(now)
        self._machine.lent |= dict.fromkeys(self._wanted, now + LIFETIME_S)
        self.put = self._wanted
        self._cluster.holding(self._machine, self._machine.holds(now) - before)
        self._soon(RENEW_S)
