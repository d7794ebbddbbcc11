# SPDX-License-Identifier: Apache-2.0
import pytest

from galelb.control.identity import Numbering
from galelb.errors import GaleError


def test_a_key_keeps_its_number():
    numbering = Numbering("node", 10)

    first = numbering.number("192.0.2.1")
    numbering.number("192.0.2.2")

    assert first == numbering.number("192.0.2.1") == 1


def test_a_known_number_is_never_given_to_another_key():
    numbering = Numbering("node", 10, {"a": 1, "b": 3})

    assert [2, 4] == [numbering.number("c"), numbering.number("d")]


def test_a_released_number_is_given_again():
    numbering = Numbering("node", 2, {"a": 1, "b": 2})
    numbering.release(["a", "unknown"])

    assert numbering.number("c") == 1


def test_released_numbers_are_given_from_the_lowest_one_on():
    numbering = Numbering("node", 5, {"a": 1, "b": 2, "c": 3, "d": 4})
    numbering.release(["d", "b"])

    assert [2, 4, 5] == [numbering.number(key) for key in "xyz"]


def test_too_many_keys_are_refused_with_a_limit_in_the_message():
    numbering = Numbering("node", 1, {"a": 1})

    with pytest.raises(GaleError, match="more than 1 nodes"):
        numbering.number("b")


@pytest.mark.parametrize("known", [{"a": 0}, {"a": 11}, {"a": 1, "b": 1}])
def test_damaged_numbers_are_refused(known):
    with pytest.raises(GaleError, match="galelb detach"):
        Numbering("node", 10, known)


def test_known_numbers_round_trip():
    numbering = Numbering("service", 10)
    numbering.number("x")

    assert Numbering("service", 10, numbering.known()).known() == {"x": 1}
