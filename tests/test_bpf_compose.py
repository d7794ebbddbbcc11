# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from galelb.bpf.compose import Composition, Part, compose
from galelb.errors import CompileError

PINS = Path("/run/pins")
TYPES = "struct point {\n\tu32 x;\n\tu32 y[N];\n};\n"
MAP = 'GALE_MAP("hash", u32, struct point, points, SIZE, 0)\n'


def one(types: str = TYPES, line: str = MAP, salt: str = "", **defines: int | str) -> Composition:
    parts = [Part("types.h", types), Part("maps.h", line)]
    return compose(parts, {"N": 2, "SIZE": 16} | defines, PINS, salt)


def pin(composition: Composition, name: str = "points") -> str:
    return composition.maps[name].name


def test_parts_follow_each_other_behind_their_names() -> None:
    actual = compose([Part("a.h", "int a;\n"), Part("b.c", "int b;")], {"X": 1, "Y": "(2)"}, PINS)

    expected = (
        "#define BPF_LICENSE Dual BSD/GPL\n#define X 1\n#define Y (2)\n"
        '#line 1 "a.h"\nint a;\n\n#line 1 "b.c"\nint b;\n'
    )
    assert expected == actual.text


def test_a_map_line_becomes_one_line_of_bcc() -> None:
    composition = one()

    line = composition.text.split('#line 1 "maps.h"\n')[1].split("\n")[0]
    expected = 'BPF_F_TABLE("hash", u32, struct point, points, GALE_ENTRIES(16), 0);'
    assert expected == line
    assert PINS == composition.maps["points"].parent
    assert {"points": 16} == composition.entries


def test_lines_keep_their_numbers() -> None:
    text = "/* one\n two */\n" + MAP + "int five;\n"
    composition = compose([Part("m.h", text)], {"SIZE": 4}, PINS)

    lines = composition.text.split('#line 1 "m.h"\n')[1].split("\n")
    assert "int five;" == lines[3]


def test_a_functions_brace_counts_lines_again() -> None:
    text = "int f(void)\n{\n\treturn 1;\n}\n/*\n{\n*/\n"
    composition = compose([Part("f.c", text)], {}, PINS)

    expected = '#line 1 "f.c"\nint f(void)\n{\n#line 3 "f.c"\n\treturn 1;\n}\n/*\n{\n*/\n\n'
    assert composition.text.endswith(expected)


def test_code_and_comments_beside_a_map_line_stay() -> None:
    text = "/* before */ " + MAP.strip() + " /* after\n goes on */\n"
    composition = compose([Part("m.h", text)], {"SIZE": 4}, PINS)

    lines = composition.text.split('#line 1 "m.h"\n')[1].split("\n")
    assert lines[0].startswith("/* before */ BPF_F_TABLE(")
    assert lines[0].endswith("; /* after")


@pytest.mark.parametrize(
    "text",
    [
        "/* " + MAP.strip() + " */\n",
        "// " + MAP,
        "/*\n" + MAP + "*/\n",
        "#ifdef ABSENT\n" + MAP + "#endif\n",
        "#if 0\n" + MAP + "#endif\n",
        "#if N == 2\n#else\n" + MAP + "#endif\n",
        "#if defined(N) && !defined(ABSENT)\n#elif 1\n" + MAP + "#endif\n",
        "#ifdef ABSENT\n#if 1\n" + MAP + "#endif\n#endif\n",
    ],
)
def test_maps_in_comments_and_switched_off_code_are_none(text: str) -> None:
    composition = one(line=text)

    assert {} == composition.maps
    assert text in composition.text


@pytest.mark.parametrize(
    "text",
    [
        "#ifndef ABSENT\n" + MAP + "#endif\n",
        "#if defined N && (N << 1) == 4\n" + MAP + "#endif\n",
        "#if 0\n#elif N > 1\n" + MAP + "#else\n#endif\n",
        "#define ON \\\n  1\n#if ON\n" + MAP + "#endif\n",
        "#define F(x) x\n#ifdef F\n" + MAP + "#endif\n",
        "#define ON\n#undef ON\n#ifndef ON\n" + MAP + "#endif\n",
    ],
)
def test_maps_in_switched_on_code_are_found(text: str) -> None:
    assert ["points"] == list(one(line=text).maps)


@pytest.mark.parametrize(
    "other",
    [
        one("/* new words */ struct point\n{ u32 x; // a comment\n u32 y[ N ]; };\n"),
        one(SIZE="(4 * 4)"),
        one(SIZE="0x10"),
        one(N="COUNT", COUNT=2),
        one(salt="anything"),
        one(UNRELATED=3),
        one(TYPES + "struct other { u64 z; };\n"),
        one("#define TWO 2\n" + TYPES.replace("[N]", "[TWO]")),
    ],
)
def test_the_same_shape_has_the_same_pin(other: Composition) -> None:
    assert pin(one()) == pin(other)


@pytest.mark.parametrize(
    "other",
    [
        one(SIZE=17),
        one(N=3),
        one(TYPES.replace("u32 x", "u16 x")),
        one(TYPES.replace("x;", "w;")),
        one(line=MAP.replace('"hash"', '"lru_hash"')),
        one(line=MAP.replace(", 0)", ", BPF_F_NO_PREALLOC)")),
        one(line=MAP.replace("u32", "u64")),
    ],
)
def test_a_changed_shape_has_another_pin(other: Composition) -> None:
    assert pin(one()) != pin(other)


def test_the_shape_follows_structs_and_typedefs_to_the_end() -> None:
    def nested(last: str) -> Composition:
        types = (
            f"struct low {{ {last} v; }};\nstruct mid {{ struct low l[2]; }};\n"
            "typedef struct mid middle;\nstruct point { middle m; };\n"
        )
        return one(types)

    assert pin(nested("u32")) != pin(nested("u16"))
    assert pin(nested("u32")) == pin(nested("u32  "))


def test_program_arrays_belong_to_one_text() -> None:
    line = 'GALE_MAP("prog_array", u32, u32, tails, 8, 0)\n'

    first, again = one(line=line), one(line=line)
    changed, salted = one(TYPES + "int x;\n", line), one(line=line, salt="frags")

    assert pin(first, "tails") == pin(again, "tails")
    assert 3 == len({pin(c, "tails") for c in (first, changed, salted)})
    assert 'BPF_F_TABLE("prog", u32' in first.text


def test_the_digest_does_not_depend_on_where_pins_are() -> None:
    parts = [Part("types.h", TYPES), Part("maps.h", MAP)]
    defines = {"N": 2, "SIZE": 16}

    here, there = compose(parts, defines, PINS), compose(parts, defines, Path("/elsewhere/x"))

    assert here.digest == there.digest
    assert here.digest != compose(parts, defines | {"Q": 1}, PINS).digest


def test_ring_buffers_can_be_pinned_and_know_their_records() -> None:
    composition = one(line='GALE_MAP("ringbuf", u32, struct point, ring, 4096 * 4, 0)\n')

    assert 'section("maps/ringbuf")' in composition.text
    assert "struct point leaf;" in composition.text
    assert ".max_entries = 16384" in composition.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MAP + MAP, "maps.h:2: map points is there already: maps.h:1"),
        ('\nGALE_MAP("hash", u32, u32, m, WIDTH, 0)\n', "maps.h:2: map m: unknown macro WIDTH"),
        ('GALE_MAP("heap", u32, u32, m, 1, 0)\n', "maps.h:1: unknown map type 'heap'"),
        ('GALE_MAP("hash", u32, u32, m, 0, 0)\n', "maps.h:1: map m: 0 entries"),
        ('GALE_MAP("hash", u32, u32, m, 4 +, 0)\n', "maps.h:1: map m: '4 +' is no integer"),
        ('GALE_MAP("hash", u32, u32, m, 1 / 0, 0)\n', "maps.h:1: map m: division by zero"),
        ('GALE_MAP("hash", u32, u32, 1m, 1, 0)\n', "maps.h:1: '1m' is no name for a map"),
        ('GALE_MAP("hash", u32, u32, m, 1)\n', "maps.h:1: write GALE_MAP("),
        ('GALE_MAP("hash", u32,\n u32, m, 1, 0)\n', "maps.h:1: write GALE_MAP("),
        ("#if (\n#endif\n", "maps.h:1: '(' is no integer"),
        ("#if 1\n", "maps.h: an #if is not closed"),
        ("#endif\n", "maps.h:1: #endif without #if"),
        ("#define A B\n#define B A\n#if A\n#endif\n", "maps.h:3: macros in"),
    ],
)
def test_mistakes_name_file_and_line(text: str, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        one(line=text)

    assert str(caught.value).startswith(message)


def test_names_that_would_break_out_of_c_text_are_refused() -> None:
    with pytest.raises(CompileError, match="cannot stand in C text"):
        compose([Part('a".h', "")], {}, PINS)
    with pytest.raises(CompileError, match="cannot stand in C text"):
        compose([Part("a.h", "")], {}, Path('/x"y'))
    with pytest.raises(CompileError, match="listed twice"):
        compose([Part("a.h", ""), Part("a.h", "")], {}, PINS)


def test_macros_of_several_lines_stay_one_macro() -> None:
    composition = compose([Part("a.h", "int x;")], {"BODY": "do {\n} while (0)"}, PINS)

    assert "#define BODY do { \\\n} while (0)\n" in composition.text
