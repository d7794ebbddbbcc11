# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galelb.bpf.cexpr import ExpressionError, evaluate, expand


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("10 - 4 - 3", 3),
        ("0x10 | 1 << 2", 20),
        ("010", 8),
        ("65536UL", 65536),
        ("1 ? 2 : 3", 2),
        ("0 ? 2 : 0 ? 3 : 4", 4),
        ("6 & 3 == 3", 0),
        ("!0 && ~0", 1),
        ("-3 + +4", 1),
        ("7 / 2 % 2", 1),
        ("1 << 3 >= 8 || 0", 1),
        ("A * 2", 10),
        ("B", 6),
    ],
)
def test_expressions_have_the_value_that_c_gives_them(text: str, expected: int) -> None:
    assert expected == evaluate(text, {"A": "5", "B": "(A + 1)"})


@pytest.mark.parametrize("text", ["", "1 2", "(1", "1 +", "f(1)", "x", "1.5", "08", '"s"', "* 2"])
def test_anything_else_is_an_error(text: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(text, {})


def test_unknown_names_can_count_as_zero() -> None:
    assert 1 == evaluate("NOWHERE + 1", {}, unknown=0)


def test_macros_that_name_each_other_end_in_an_error() -> None:
    with pytest.raises(ExpressionError, match="name each other"):
        expand("A", {"A": "B", "B": "A"})


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 1000))
def test_precedence_is_that_of_python_for_arithmetic(a: int, b: int, c: int) -> None:
    text = f"{a} + {b} * {c} - {a} / {c} % 7"

    assert a + b * c - a // c % 7 == evaluate(text, {})
