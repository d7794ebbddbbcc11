# SPDX-License-Identifier: Apache-2.0
"""The line finder: every key of every valid TOML text is found where it is written."""

import contextlib
import itertools

import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from galelb.config.toml_lines import key_lines, line_of

EXAMPLE = """\
# a comment with [brackets] and = signs
top = 1
"quoted key" = "a # no comment"
'its'.x = 2
[server.inner]      # line 5
many = [
  1,  # one ]
  { a = 1, b.c = [ 2 ] },
  \"\"\"text
  [not.a.table] = \\\"\"\" still ""\"\"\",
]
after = '''
x = 1
'''
[[list]]
v = 1
[[list]]
v = 2
[list.sub]
w = 3
[[list.deep]]
x = 4
[[list.deep]]
x = 5
"""


def test_keys_of_every_kind_are_found():
    expected = {
        ("top",): 2,
        ("quoted key",): 3,
        ("its", "x"): 4,
        ("server", "inner"): 5,
        ("server", "inner", "many"): 6,
        ("server", "inner", "many", 0): 7,
        ("server", "inner", "many", 1, "a"): 8,
        ("server", "inner", "many", 1, "b", "c", 0): 8,
        ("server", "inner", "many", 2): 9,
        ("server", "inner", "after"): 12,
        ("list", 0, "v"): 16,
        ("list", 1): 17,
        ("list", 1, "v"): 18,
        ("list", 1, "sub", "w"): 20,
        ("list", 1, "deep", 0, "x"): 22,
        ("list", 1, "deep", 1, "x"): 24,
    }
    tomli.loads(EXAMPLE)

    lines = key_lines(EXAMPLE)

    assert expected == {path: lines.get(path) for path in expected}


def test_windows_line_ends_count_once():
    assert {("a",): 1, ("b",): 2} == key_lines("a = 1\r\nb = 2\r\n")


def test_an_absent_key_is_at_the_table_it_belongs_into():
    lines = key_lines("x = 1\n[a]\nb = 1\n")

    assert 2 == line_of(lines, ("a", "missing"))
    assert 1 == line_of(lines, ("nowhere", "at", "all"))


KEYS = st.sampled_from(["a", "b-1", "key_2", '"q.q"', "'l l'", '"\\u00e9"', '"]="', "3"])
DECOYS = ['"x = 1 # no"', "'[no]'", '"""\n[no]\n\\""" = 1"""', "'''\n#'\n'''", '"\\\\"', '"\\""']
GAPS = st.sampled_from(["", " ", "\n", " # c, ] } =\n", "\n\n  "])


@st.composite
def documents(draw):
    """A valid TOML text whose numbers are all different, so that a value tells its line."""
    numbers = itertools.count(100_000)

    def value(depth):
        kind = draw(st.sampled_from(["number", "number", "decoy", "array", "table"]))
        if kind == "decoy":
            return draw(st.sampled_from(DECOYS))
        if kind == "number" or depth == 0:
            return str(next(numbers))
        if kind == "array":
            items = [value(depth - 1) for _ in range(draw(st.integers(0, 3)))]
            return (
                "[" + "".join(draw(GAPS) + i + draw(GAPS) + "," for i in items) + draw(GAPS) + "]"
            )
        keys = draw(st.lists(KEYS, max_size=3, unique=True))
        return "{" + ", ".join(f" {key} = {value(depth - 1)} " for key in keys) + "}"

    def pairs():
        keys = draw(st.lists(KEYS, max_size=4, unique=True))
        dotted = draw(st.booleans())
        names = [f"{key} . inner" if dotted else key for key in keys]
        return "".join(f"{draw(GAPS)}{name} ={value(2)}\n" for name in names)

    text = pairs()
    for index in range(draw(st.integers(0, 5))):
        name = f"t{index % 3}"
        many = draw(st.booleans())
        header = f"[[ {name}m ]]" if many else f"[{name}.s{index}]"
        text += f"{draw(GAPS)}{header} # c\n{pairs()}"
        if many and draw(st.booleans()):
            text += f"[{name}m.sub]\n{pairs()}"
    return text


def leaves(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, dict | list):
            yield (*path, key), None
            yield from leaves(item, (*path, key))
        else:
            yield (*path, key), item


@settings(max_examples=300, deadline=None)
@given(documents())
def test_every_number_is_on_the_line_that_is_found_for_its_key(text):
    data = tomli.loads(text)
    rows = text.split("\n")

    lines = key_lines(text)

    for path, value in leaves(data):
        assert path in lines, path
        if isinstance(value, int):
            assert str(value) in rows[lines[path] - 1], path


@given(st.text(alphabet="ab=[]{}\"'.,#\n\\ ", max_size=60))
def test_the_walk_ends_on_any_text(text):
    """It only ever sees valid TOML, but must not hang if that promise breaks."""
    with contextlib.suppress(tomli.TOMLDecodeError):  # a quoted key that is none
        key_lines(text)
