# SPDX-License-Identifier: Apache-2.0
"""The holder of addresses in virtual time, over a kernel that is told what to do."""

import contextlib
from ipaddress import ip_address

import pytest
import trio
from structlog.testing import capture_logs

from galelb.announcer import Held, HeldKind
from galelb.errors import NetlinkError
from galelb.group.holder import LIFETIME_S, AddressHolder
from galelb.netlink import Lent, LentState


def held(last, interface="pub0"):
    return Held(address=ip_address(f"192.0.2.{last}"), interface=interface, kind=HeldKind.VIP)


ONE, TWO = held(1), held(2)


def place(one):
    return (one.interface, one.address)


class Kernel:
    """Addresses with lifetimes in virtual time."""

    def __init__(self):
        self.until = {}
        """When each (interface, address) expires; infinite = somebody else's."""
        self.missing = set()
        self.failing = ""
        self.takes_s = 0.0
        self.calls = 0

    @contextlib.asynccontextmanager
    async def open(self):
        yield self

    def there(self):
        return {p for p, until in self.until.items() if until > trio.current_time()}

    async def lend_addresses(self, wanted, valid_s):
        self.calls += 1
        await trio.sleep(self.takes_s)
        if self.failing:
            raise NetlinkError(self.failing)
        there = self.there()
        return {p: self._lend(p, there, valid_s) for p in wanted}

    def _lend(self, p, there, valid_s):
        if p[0] in self.missing:
            return Lent(LentState.MISSING, f"there is no interface {p[0]}")
        if self.until.get(p) == float("inf"):
            return Lent(LentState.FOREIGN)
        self.until[p] = trio.current_time() + valid_s
        return Lent(LentState.RENEWED if p in there else LentState.NEW)

    async def take_addresses_back(self, lent, valid_s):
        await trio.sleep(self.takes_s)
        for p in lent:
            if self.until.get(p) != float("inf"):
                self.until.pop(p, None)


@pytest.fixture
def kernel():
    return Kernel()


@pytest.fixture
def reports():
    return []


@pytest.fixture
async def holder(kernel, reports, nursery, autojump_clock):
    made = AddressHolder(reports.append, open_lender=kernel.open)
    await nursery.start(made.run)
    return made


async def test_addresses_are_there_for_as_long_as_they_are_wanted(
    holder, kernel, reports, autojump_clock
):
    holder.hold([ONE, TWO])
    for _ in range(100):
        await trio.sleep(0.5)
        assert {place(ONE), place(TWO)} == kernel.there()
    holder.hold([TWO])
    await trio.sleep(0.1)

    assert {place(TWO)} == kernel.there()
    assert [{ONE, TWO}, {TWO}] == reports
    assert {TWO} == holder.held


async def test_a_wish_is_done_at_once(holder, kernel, autojump_clock):
    await trio.sleep(0.5)
    holder.hold([ONE])
    await trio.testing.wait_all_tasks_blocked()

    assert {place(ONE)} == kernel.there()


async def test_wishes_that_change_nothing_cost_nothing(holder, kernel, autojump_clock):
    for _ in range(1000):
        holder.hold([ONE])
        await trio.testing.wait_all_tasks_blocked()

    assert kernel.calls <= 3


async def test_cancelled_it_takes_away_what_it_put_there(kernel, reports, autojump_clock):
    theirs = place(TWO)
    kernel.until[theirs] = float("inf")
    made = AddressHolder(reports.append, open_lender=kernel.open)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.run)
        made.hold([ONE, TWO])
        await trio.sleep(5)
        before = kernel.there()
        nursery.cancel_scope.cancel()

    assert {place(ONE), theirs} == before
    assert {theirs} == kernel.there()


async def test_somebody_elses_address_counts_as_held_and_stays(
    holder, kernel, reports, autojump_clock
):
    kernel.until[place(ONE)] = float("inf")
    holder.hold([ONE])
    await trio.sleep(2)
    holder.hold([])
    await trio.sleep(2)

    assert [{ONE}, set()] == reports
    assert {place(ONE)} == kernel.there()


async def test_a_missing_interface_is_retried_and_logged_once(
    holder, kernel, reports, autojump_clock
):
    lost = held(9, "eth9")
    kernel.missing.add("eth9")
    with capture_logs() as logs:
        holder.hold([ONE, lost])
        await trio.sleep(10)
        note = holder.notes()
        kernel.missing.clear()
        await trio.sleep(2)

    assert [{ONE}, {ONE, lost}] == reports
    assert ["192.0.2.9 is not on eth9: there is no interface eth9"] == note
    assert [] == holder.notes()
    assert 1 == len([entry for entry in logs if entry["event"] == "address_not_held"])


async def test_an_address_that_was_gone_in_between_is_reported_as_gone_first(
    holder, kernel, reports, autojump_clock
):
    holder.hold([ONE, TWO])
    await trio.sleep(2.5)
    del kernel.until[place(ONE)]
    await trio.sleep(1)

    assert [{ONE, TWO}, {TWO}, {ONE, TWO}] == reports


async def test_renewals_that_are_slow_but_in_time_lose_nothing(
    holder, kernel, reports, autojump_clock
):
    kernel.takes_s = 1.8
    holder.hold([ONE])
    await trio.sleep(60)

    assert [{ONE}] == reports
    assert {place(ONE)} == kernel.there()


async def test_who_did_not_run_has_nothing_and_rests_before_it_takes_it_again(
    holder, kernel, reports, autojump_clock
):
    holder.hold([ONE])
    await trio.sleep(2.5)
    autojump_clock.jump(LIFETIME_S + 1)
    await trio.testing.wait_all_tasks_blocked()
    after = set(kernel.there())
    await trio.sleep(1.5)

    assert set() == after
    assert [{ONE}, set(), {ONE}] == reports
    assert {place(ONE)} == kernel.there()


async def test_what_is_wanted_no_more_after_a_stop_is_not_taken_again(
    holder, kernel, reports, autojump_clock
):
    holder.hold([ONE])
    await trio.sleep(2.5)
    autojump_clock.jump(LIFETIME_S + 1)
    await trio.sleep(0.5)
    holder.hold([])
    await trio.sleep(20)

    assert [{ONE}, set()] == reports
    assert set() == kernel.there()


async def test_addresses_that_cannot_be_renewed_count_as_held_until_they_expire(
    holder, kernel, reports, autojump_clock
):
    holder.hold([ONE])
    await trio.sleep(0.5)
    kernel.failing = "no socket"
    with capture_logs() as logs:
        await trio.sleep(2)
        early = list(reports)
        await trio.sleep(3)
        late, note = list(reports), holder.notes()
        kernel.failing = ""
        await trio.sleep(3)

    assert [{ONE}] == early
    assert [{ONE}, set()] == late
    assert ["Addresses cannot be renewed: no socket"] == note
    assert [{ONE}, set(), {ONE}] == reports
    assert 1 == len([entry for entry in logs if entry["event"] == "addresses_not_renewed"])
