# SPDX-License-Identifier: Apache-2.0
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

from galelb.bpf.compile import Unit, compile_units
from galelb.bpf.compose import Part, compose
from galelb.errors import CompileError, EnvironmentProblem, MapError, VerifierError
from galelb.testing.kernel import Sandbox

pytestmark = pytest.mark.bpf

MAPS = """
struct value { u64 count; u8 mac[6]; u16 pad; };
GALE_MAP("array", u32, struct value, values, SIZE, 0)
"""
PROGRAM = """
int gale_count(struct xdp_md *ctx)
{
	u32 key = 1;
	struct value *value = values.lookup(&key);

	if (value)
		value->count += STEP;
	return XDP_TX;
}
"""


def unit(
    pins: Path, program: str = PROGRAM, functions: Mapping[str, str] | None = None, **defines: int
) -> Unit:
    parts = [Part("maps.h", MAPS), Part("program.bpf.c", program)]
    composition = compose(parts, {"SIZE": 4, "STEP": 1} | defines, pins)
    return Unit(composition, functions or {"gale_count": "xdp"})


def test_a_c_error_names_the_part_and_its_line(sandbox: Sandbox) -> None:
    program = PROGRAM.replace("return XDP_TX", "return nonsense")

    with pytest.raises(CompileError) as caught:
        compile_units([unit(sandbox.pins, program)], sandbox.pins)

    message = str(caught.value)
    assert "program.bpf.c:9: use of undeclared identifier 'nonsense'" == message


def test_a_function_that_does_not_exist_is_named_where_it_is_called(sandbox: Sandbox) -> None:
    program = PROGRAM.replace("value->count += STEP", "value->count += gale_nonsense(STEP)")

    with pytest.raises(CompileError, match=r"^program\.bpf\.c:8: .*'gale_nonsense'"):
        compile_units([unit(sandbox.pins, program)], sandbox.pins)


def test_a_verifier_error_names_the_line_and_keeps_the_log(sandbox: Sandbox) -> None:
    program = PROGRAM.replace("if (value)", "if (1)")

    with pytest.raises(VerifierError) as caught:
        compile_units([unit(sandbox.pins, program)], sandbox.pins)

    expected = (
        "the verifier refused gale_count at program.bpf.c:8: value->count += STEP;:"
        " R0 invalid mem access 'map_value_or_null'"
    )
    assert expected == str(caught.value)
    assert 1 < len(caught.value.log.splitlines()) <= 30


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("volatile u8 big[600]; big[key] = 1; value->count = big[3];", "stack limit"),
        ("value->count = value->count * 0.5;", r"^program\.bpf\.c:8: in gale_count: .*'__float"),
    ],
)
def test_what_llvm_refuses_is_told(sandbox: Sandbox, line: str, expected: str) -> None:
    program = PROGRAM.replace("value->count += STEP;", f"{{ {line} }}")

    with pytest.raises(CompileError, match=expected):
        compile_units([unit(sandbox.pins, program)], sandbox.pins)


def test_nothing_is_pinned_when_one_of_two_units_is_refused(sandbox: Sandbox) -> None:
    bad = unit(sandbox.pins, PROGRAM.replace("if (value)", "if (1)").replace("count(", "bad("))
    bad = attrs.evolve(bad, functions={"gale_bad": "xdp"})

    with pytest.raises(VerifierError):
        compile_units([unit(sandbox.pins), bad], sandbox.pins)

    assert [] == [path.name for path in sandbox.pins.iterdir() if path.name.startswith("prog-")]


def test_a_function_that_is_not_there_is_named(sandbox: Sandbox) -> None:
    with pytest.raises(CompileError, match="no function gale_none is defined"):
        compile_units([unit(sandbox.pins, functions={"gale_none": "xdp"})], sandbox.pins)


def test_units_must_not_mean_different_things_by_one_name(sandbox: Sandbox) -> None:
    with pytest.raises(CompileError, match="a function of the same name"):
        compile_units([unit(sandbox.pins), unit(sandbox.pins, SIZE=5)], sandbox.pins)

    tc_program = PROGRAM.replace("gale_count(struct xdp_md", "gale_tc(struct __sk_buff")
    other = unit(sandbox.pins, tc_program, {"gale_tc": "tc"}, SIZE=5)
    with pytest.raises(MapError, match="map values: compile: two units"):
        compile_units([unit(sandbox.pins), other], sandbox.pins)


def test_pins_outside_a_bpffs_are_a_problem_of_the_environment(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="not on a bpffs"):
        compile_units([unit(tmp_path)], tmp_path)


def test_the_folder_for_pins_is_made(sandbox: Sandbox) -> None:
    pins = sandbox.pins / "lb1" / "pins"

    compiled = compile_units([unit(pins)], pins)

    assert pins == compiled.programs["gale_count"].pin.parent


def test_a_folder_that_cannot_be_made_is_a_problem_of_the_environment(sandbox: Sandbox) -> None:
    pins = sandbox.pins / "no.dots"

    with pytest.raises(EnvironmentProblem, match=r"cannot make .*no\.dots"):
        compile_units([unit(pins)], pins)


def test_a_python_that_is_not_there_is_a_problem_of_the_environment(sandbox: Sandbox) -> None:
    with pytest.raises(EnvironmentProblem, match="cannot start /no/such/python"):
        compile_units([unit(sandbox.pins)], sandbox.pins, python="/no/such/python")


def test_a_helper_that_dies_or_hangs_is_an_error_message(sandbox: Sandbox, tmp_path: Path) -> None:
    crash, sleep = tmp_path / "crash", tmp_path / "sleep"
    crash.write_text("#!/bin/sh\necho segmentation fault >&2\nexit 139\n")
    sleep.write_text("#!/bin/sh\nexec sleep 60\n")
    for script in (crash, sleep):
        script.chmod(0o700)

    with pytest.raises(CompileError, match="ended with 139: segmentation fault"):
        compile_units([unit(sandbox.pins)], sandbox.pins, python=str(crash))
    with pytest.raises(CompileError, match="did not finish within"):
        compile_units([unit(sandbox.pins)], sandbox.pins, python=str(sleep), timeout_s=0.1)


def test_a_verifier_error_with_frags_is_explained_as_well(sandbox: Sandbox) -> None:
    source = "int gale_f(struct xdp_md *c)\n{\n\treturn *(u8 *)(long)c->data;\n}\n"

    with pytest.raises(VerifierError, match=r"test\.bpf\.c:3: return .*outside of the packet"):
        sandbox.compile(source, {"gale_f": "xdp"}, frags=True)
