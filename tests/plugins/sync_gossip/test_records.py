# SPDX-License-Identifier: Apache-2.0
"""Records: deleted ones make room for new ones, and what is forgotten does not come back."""

import pytest
from galelb_plugins.sync_gossip.messages import Record
from galelb_plugins.sync_gossip.records import Records

from galelb.errors import LocalProtocolError


def records(limit=3):
    return Records("a", 4, limit)


def values(some, origin="a"):
    return {one.key: one.value for one in some.of(origin)}


def test_keys_may_change_for_ever():
    """Nodes come and go under new addresses, and each leaves a deleted record behind."""
    some = records()
    for number in range(100):
        some.write(str(number), b"x")
        some.write(str(number), None)
    some.write("kept", b"1")

    assert {"kept": b"1"} == values(some)
    assert 3 == len(list(some))


def test_only_deleted_records_make_room():
    some = records()
    for key in "xyz":
        some.write(key, b"1")
    with pytest.raises(LocalProtocolError):
        some.write("more", b"1")

    some.write("y", None)
    some.write("more", b"1")

    assert {"x": b"1", "z": b"1", "more": b"1"} == values(some)


def test_the_first_deleted_goes_first():
    some = records()
    for key in "xyz":
        some.write(key, b"1")
    for key in "zx":
        some.write(key, None)

    some.write("more", b"1")

    assert some.get("a", "z") is None
    assert some.get("a", "x").value is None


def test_others_make_room_in_the_same_way():
    some = records()
    for number, key in enumerate("xyz"):
        some.merge(Record("b", key, number + 1, None if key == "y" else b"1"))

    assert some.merge(Record("b", "more", 1, b"1"))
    assert some.merge(Record("b", "most", 1, b"1")) is None

    assert {"x": b"1", "z": b"1", "more": b"1"} == values(some, "b")


def test_a_value_that_was_deleted_and_forgotten_is_deleted_again_by_its_origin():
    some = records()

    answer = some.merge(Record("a", "old", 7, b"before"))

    assert Record("a", "old", 8, None) == answer
    assert {} == values(some)


def test_deletions_of_what_is_not_known_do_not_push_each_other_out():
    some = records()
    for key in "xyz":
        some.write(key, b"1")
        some.write(key, None)
    before = set(some)

    for number in range(10):
        assert some.merge(Record("a", str(number), 5, None)) is None

    assert before == set(some)


def test_what_is_written_over_a_forgotten_deletion_holds_in_the_end():
    """Others may still hold the deletion, with a higher version."""
    some = records()
    some.write("k", b"new")

    answer = some.merge(Record("a", "k", 5, None))

    assert Record("a", "k", 6, b"new") == answer
