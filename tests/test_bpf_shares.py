# SPDX-License-Identifier: Apache-2.0
from galelb.bpf.shares import costs, only, split

HELPERS = """
static __always_inline int heavy(int a)
{
%s}

static __always_inline int light(int a)
{
	return a;
}
""" % ("\ta += a * 3 + 1;\n" * 500)
PROGRAMS = """
int GALE_FN(entry)(GALE_CTX *ctx)
{
	return heavy(1);
}

int GALE_FN(slow)(GALE_CTX *ctx)
{
	return heavy(light(2));
}

int plain(struct xdp_md *ctx)
{
	return light(3);
}
"""
TEXT = HELPERS + PROGRAMS
FUNCTIONS = {"gale_xdp_entry": "xdp", "gale_xdp_slow": "xdp", "plain": "xdp"}


def test_a_program_costs_what_is_inlined_into_it() -> None:
    cost = costs(TEXT, FUNCTIONS)

    assert 0 < cost["plain"] < 100
    assert cost["gale_xdp_entry"] > 8000
    assert cost["gale_xdp_entry"] < cost["gale_xdp_slow"] < cost["gale_xdp_entry"] + 100


def test_a_function_that_calls_itself_or_is_not_there_has_a_cost() -> None:
    text = "int f(int a)\n{\n\treturn f(a);\n}\n"

    assert {"f": len("\treturn f(a);\n"), "none": 0} == costs(text, {"f": "xdp", "none": "xdp"})


def test_shares_cost_about_the_same_and_miss_nothing() -> None:
    actual = split(TEXT, FUNCTIONS, 2)

    assert [{"gale_xdp_slow": "xdp"}, {"gale_xdp_entry": "xdp", "plain": "xdp"}] == actual


def test_what_is_quick_to_compile_is_not_split() -> None:
    assert [FUNCTIONS] == split(PROGRAMS, FUNCTIONS, 2)
    assert [FUNCTIONS] == split(TEXT, FUNCTIONS, 1)
    assert [{"plain": "xdp"}] == split(TEXT, {"plain": "xdp"}, 4)


def test_other_programs_are_not_emitted_and_lines_stay() -> None:
    actual = only(TEXT, {"gale_xdp_slow": "xdp"}, {"xdp"})

    expected = TEXT.replace("int GALE_FN(entry)", "static inline int GALE_FN(entry)")
    expected = expected.replace("\nint plain", "\nstatic inline int plain")
    assert expected == actual
    assert TEXT.count("\n") == actual.count("\n")
