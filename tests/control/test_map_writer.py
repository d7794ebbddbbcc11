# SPDX-License-Identifier: Apache-2.0
from galelb.control.map_writer import MapWriter
from galelb.testing.fake_maps import FakeMap


def test_only_changes_are_written():
    table, writer = FakeMap("nodes"), MapWriter()

    assert [2, 0, 1] == [
        writer.write(table, entries)
        for entries in ([(1, 10), (2, 20)], [(1, 10), (2, 20)], [(1, 10), (2, 21)])
    ]
    assert table.get(2) == 21


def test_an_entry_that_was_deleted_meanwhile_is_written_again():
    table, writer = FakeMap("slices"), MapWriter()
    writer.write(table, [(1, 10)])
    table.delete(1)
    writer.write(table, [])

    writer.write(table, [(1, 10)])

    assert table.get(1) == 10
