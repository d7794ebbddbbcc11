# SPDX-License-Identifier: Apache-2.0
"""Lag is how late a task that has nothing else to do gets to run."""

from __future__ import annotations

import trio
import trio.testing

from galelb.control.lag import INTERVAL_S, WINDOW_S, LoopLag


async def measured(clock: trio.testing.MockClock, *delays: float) -> LoopLag:
    """Return what it saw when it could run so much after each time at which it wanted to."""
    lag = LoopLag()
    async with trio.open_nursery() as nursery:
        await nursery.start(lag.run)
        for delay in delays:
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(INTERVAL_S + delay)
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return lag


async def test_work_that_blocks_is_seen(mock_clock: trio.testing.MockClock) -> None:
    lag = await measured(mock_clock, 0, 3, 0)

    assert (3, 3) == (lag.worst, lag.seen.count)
    assert 3 == round(lag.seen.sum, 9)


async def test_an_old_lag_is_forgotten(mock_clock: trio.testing.MockClock) -> None:
    looks = int(WINDOW_S / INTERVAL_S)

    assert 2 == (await measured(mock_clock, 2, *[0] * looks)).worst
    assert 0 == (await measured(mock_clock, 2, *[0] * (3 * looks))).worst
