# SPDX-License-Identifier: Apache-2.0
"""Tables are read while programs change them: what changes hands meanwhile is never told."""

from __future__ import annotations

import numpy as np
import pytest
from galelb_plugins.l4_nat.columns import Columns, Places, WaysBack
from galelb_plugins.l4_nat.entries import BUSY

from galelb.testing.fake_maps import FakeMap

NODE = 7
"""The slice of the flow's node."""
FLOW = 0xC0000201 << 32 | 40000 << 16 | 3
WAY_BACK = FLOW >> 16 << 16 | NODE
WORD = NODE << 48 | 40000 << 32 | 0x0009 << 16
FULL_ROW = 64
"""Bytes of a bucket of four entries of IPv4."""

LATER = {
    "free": 0,
    "being written": BUSY,
    "another flow's": (NODE + 1) << 48 | 40001 << 32 | 0x0009 << 16,
}


@pytest.fixture
def table() -> FakeMap:
    """A return table of one bucket, with the way back of one flow."""
    made = FakeMap("l4_nat_returns4", 1, leaf_size=FULL_ROW)
    Columns(made, 4).rows[2] = WAY_BACK, WORD
    return made


def words(table: FakeMap) -> list[int]:
    back = WaysBack({table.name: table}, 4, 0)
    none = np.zeros(0, np.int64)
    places = Places({}, {}, none, none, none)
    flow, forward = np.array([[FLOW]], np.uint64), np.array([WORD], np.uint64)
    return back.words(flow, forward, places).tolist()


def test_the_way_back_of_a_flow_is_found(table) -> None:
    assert [WORD] == words(table)


@pytest.mark.parametrize("later", LATER.values(), ids=LATER)
def test_an_entry_that_changed_hands_after_it_was_found_is_none(table, monkeypatch, later) -> None:
    found = Columns.find

    def find(columns: Columns, keys):
        at = found(columns, keys)
        columns.rows[at] = WAY_BACK + (later > BUSY), later
        return at

    monkeypatch.setattr(Columns, "find", find)

    assert [0] == words(table)
