# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galelb.bpf.codec import make_codec
from galelb.errors import MapError

INNER = ["inner", [["mac", "unsigned char", [6]], ["z", "unsigned short"]], "struct_packed"]
OUTER = [
    "outer",
    [
        ["a", "unsigned int", [4]],
        ["p", "unsigned short"],
        ["x", "unsigned char"],
        ["__pad_3", "char", [5]],
        ["l", "unsigned long long"],
        ["in", INNER],
        ["ins", INNER, [2]],
    ],
    "struct_packed",
]
ZERO: dict[str, Any] = {"mac": bytes(6), "z": 0}


def test_a_struct_is_a_dict_of_its_fields() -> None:
    codec = make_codec(OUTER, "m")
    value = {
        "a": (1, 2, 3, 4),
        "p": 5,
        "x": 6,
        "l": 1 << 60,
        "in": {"mac": b"abcdef", "z": 7},
        "ins": ({"mac": b"ghijkl", "z": 8}, ZERO),
    }

    data = codec.encode(value)

    assert 56 == codec.size == len(data)
    assert value == codec.decode(data)
    assert [value, value] == codec.decode_all(codec.encode_all([value, value]))


def test_fields_that_are_not_given_are_zero() -> None:
    codec = make_codec(OUTER, "m")

    assert bytes(codec.size) == codec.encode({})
    assert {"mac": bytes(6), "z": 1} == codec.decode(codec.encode({"in": {"z": 1}}))["in"]


def test_structs_that_are_not_packed_get_the_gaps_of_c() -> None:
    codec = make_codec(["s", [["a", "unsigned char"], ["b", "unsigned int"], ["c", "short"]]], "m")

    assert bytes([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]) == codec.encode({"a": 1, "b": 2, "c": 3})


def test_a_union_is_bytes() -> None:
    union = ["u", [["a", "unsigned int"], ["b", "unsigned char", [6]]], "union"]
    codec = make_codec(["s", [["u", union], ["t", "unsigned short"]], "struct_packed"], "m")

    assert {"u": b"123456", "t": 1} == codec.decode(b"123456\1\0")


@pytest.mark.parametrize(
    "value",
    [
        {"a": (1, 2, 3)},
        {"p": -1},
        {"p": 65536},
        {"p": "text"},
        {"nowhere": 1},
        {"in": 3},
        {"in": {"mac": b"12345"}},
        {"in": {"mac": 6}},
        7,
        None,
    ],
)
def test_values_that_do_not_fit_are_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        make_codec(OUTER, "m").encode(value)


@pytest.mark.parametrize(
    "description",
    ["float", ["s", [["bits", "unsigned int", 3]]], ["s", [["m", "int", [2, 2]]]]],
)
def test_types_beyond_us_name_the_map(description: Any) -> None:
    with pytest.raises(MapError, match="map m: describe"):
        make_codec(description, "m")


@given(st.lists(st.integers(0, (1 << 32) - 1)))
def test_plain_integers_survive_in_bulk(values: list[int]) -> None:
    codec = make_codec("unsigned int", "m")

    assert values == codec.decode_all(codec.encode_all(values))
