# SPDX-License-Identifier: Apache-2.0
"""How long two threads must have run at once, by what they ran for and what time passed."""

import pytest

from bench.flowtable_load import together
from galelb.testing.lives import Record


def record(began_ns: int, over_ns: int, run_ns: int, runs: int = 100) -> Record:
    return Record(
        missed=(),
        crossed=0,
        moved=0,
        ended=runs,
        runs=runs,
        run_ns=run_ns,
        began_ns=began_ns,
        over_ns=over_ns,
    )


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        pytest.param(record(0, 1000, 10), record(0, 1000, 10), 1.0, id="all the time"),
        pytest.param(record(0, 1000, 10), record(1000, 2000, 10), 0.0, id="one after the other"),
        pytest.param(record(0, 1000, 10), record(3000, 4000, 10), 0.0, id="with a pause"),
        pytest.param(record(0, 1000, 10), record(500, 1500, 10), 0.5, id="half of the time"),
        pytest.param(record(0, 2000, 20), record(500, 1500, 10), 1.0, id="the shorter one"),
        pytest.param(record(0, 2000, 10), record(0, 2000, 10), 0.0, id="in turn on one CPU"),
        pytest.param(record(0, 990, 10), record(0, 990, 10), 1.0, id="a mean that is rounded up"),
    ],
)
def test_the_share_of_time_in_which_two_threads_ran_at_once(one, other, share):
    assert share == pytest.approx(together([one, other]))
