# SPDX-License-Identifier: Apache-2.0
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

from galelb.bpf import syscalls
from galelb.bpf.compile import Compiled, Unit, compile_units, forget_old
from galelb.bpf.compose import Part, compose
from galelb.bpf.layout import MapType
from galelb.bpf.maps import close_maps, open_maps
from galelb.bpf.testrun import run_xdp
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


def build(sandbox: Sandbox, **defines: int) -> Compiled:
    return compile_units([unit(sandbox.pins, **defines)], sandbox.pins)


def run(compiled: Compiled, function: str = "gale_count") -> int:
    fd = syscalls.obj_get(compiled.programs[function].pin)
    try:
        return run_xdp(fd, bytes(64)).verdict
    finally:
        os.close(fd)


def count(compiled: Compiled) -> int:
    maps = open_maps(compiled.maps)
    try:
        return int(maps["values"].get(1)["count"])
    finally:
        close_maps(maps)


def test_a_program_is_compiled_loaded_and_pinned(sandbox: Sandbox) -> None:
    compiled = build(sandbox)

    program = compiled.programs["gale_count"]
    layout = compiled.maps["values"]
    assert 3 == run(compiled)
    assert 1 == count(compiled)
    assert program.pin.name.startswith("prog-gale_count-")
    assert program.instructions > 5
    assert program.verified_instructions > 5
    assert (MapType.ARRAY, 4, 16) == (layout.type, layout.key_size, layout.leaf_size)
    assert (4, 0) == (layout.max_entries, layout.flags)


def test_a_changed_program_keeps_the_maps_of_the_same_shape(sandbox: Sandbox) -> None:
    first = build(sandbox)
    run(first)

    second = build(sandbox, STEP=10)
    run(second)

    assert 11 == count(second)
    assert first.maps["values"].pin == second.maps["values"].pin
    assert first.programs["gale_count"].pin != second.programs["gale_count"].pin


def test_a_map_of_another_size_is_a_new_map(sandbox: Sandbox) -> None:
    first = build(sandbox)
    run(first)

    second = build(sandbox, SIZE=64)

    assert 64 == second.maps["values"].max_entries
    assert 0 == count(second)
    assert 1 == count(first)


def test_a_restart_adopts_without_compiling(sandbox: Sandbox, tmp_path: Path) -> None:
    one = unit(sandbox.pins)
    first = compile_units([one], sandbox.pins, cache=tmp_path)
    run(first)

    second = compile_units([one], sandbox.pins, cache=tmp_path, python="/no/such/python")

    assert (False, True) == (first.cached, second.cached)
    assert attrs.evolve(first, cached=True) == second
    assert 1 == count(second)


def test_a_lost_pin_or_a_broken_cache_means_compiling_again(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    one = unit(sandbox.pins)
    first = compile_units([one], sandbox.pins, cache=tmp_path)

    first.programs["gale_count"].pin.unlink()
    second = compile_units([one], sandbox.pins, cache=tmp_path)
    for file in tmp_path.iterdir():
        file.write_text("{")
    third = compile_units([one], sandbox.pins, cache=tmp_path)

    assert [False, False, False] == [first.cached, second.cached, third.cached]
    assert 3 == run(third)


def test_xdp_and_tc_share_maps(sandbox: Sandbox) -> None:
    tc_program = PROGRAM.replace("gale_count(struct xdp_md", "gale_tc(struct __sk_buff")
    units = [unit(sandbox.pins), unit(sandbox.pins, tc_program, {"gale_tc": "tc"})]

    compiled = compile_units(units, sandbox.pins)

    assert {"gale_count", "gale_tc"} == set(compiled.programs)
    assert ["values"] == list(compiled.maps)


def test_old_programs_are_forgotten_and_maps_stay(sandbox: Sandbox) -> None:
    array = 'GALE_MAP("prog_array", u32, u32, tails, 2, 0)\n'
    program = array + PROGRAM.replace("return", "tails.call(ctx, 0);\n\treturn")
    old = compile_units([unit(sandbox.pins, program)], sandbox.pins)
    new = compile_units([unit(sandbox.pins, program, STEP=2)], sandbox.pins)

    removed = forget_old(sandbox.pins, new)

    expected = {old.programs["gale_count"].pin, old.maps["tails"].pin}
    assert expected == set(removed)
    assert old.maps["values"].pin.exists()
    assert 3 == run(new)


def test_old_maps_are_forgotten_only_when_asked(sandbox: Sandbox) -> None:
    old = build(sandbox)
    new = build(sandbox, SIZE=8)

    forget_old(sandbox.pins, new)
    kept = old.maps["values"].pin.exists()
    forget_old(sandbox.pins, new, maps=True)

    assert kept
    assert not old.maps["values"].pin.exists()
    assert new.maps["values"].pin.exists()
    assert new.programs["gale_count"].pin.exists()


def test_a_c_error_names_the_part_and_its_line(sandbox: Sandbox) -> None:
    program = PROGRAM.replace("return XDP_TX", "return nonsense")

    with pytest.raises(CompileError) as caught:
        compile_units([unit(sandbox.pins, program)], sandbox.pins)

    message = str(caught.value)
    assert "program.bpf.c:9: use of undeclared identifier 'nonsense'" == message


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


def test_a_package_that_is_only_called_bcc_is_refused(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bcc.py").write_text("LATTICE = True\n")
    (tmp_path / "sitecustomize.py").write_text(
        "import bcc\n"  # already imported: what a virtual environment with PyPI's bcc would do
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    with pytest.raises(EnvironmentProblem, match="install python3-bpfcc"):
        compile_units([unit(sandbox.pins)], sandbox.pins)


def test_a_virtual_environment_without_system_packages_finds_bcc(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    # -S hides every site-packages folder, as such an environment hides Debian's.
    wrapper = tmp_path / "python"
    packages = Path(attrs.__file__).parents[1]
    wrapper.write_text(
        f'#!/bin/sh\nexport PYTHONPATH="$PYTHONPATH:{packages}"\nexec {sys.executable} -S "$@"\n'
    )
    wrapper.chmod(0o700)

    compiled = compile_units([unit(sandbox.pins)], sandbox.pins, python=str(wrapper))

    assert 3 == run(compiled)


def test_no_header_package_is_needed(sandbox: Sandbox, tmp_path: Path) -> None:
    folders = [f for f in ("/usr/include", "/usr/src", "/lib/modules") if Path(f).is_dir()]
    hide = "\n".join(f"mount -t tmpfs none {folder}" for folder in folders)
    script = tmp_path / "python"
    script.write_text(
        f'#!/bin/sh\nexec unshare --mount sh -ec \'{hide}\nexec {sys.executable} "$@"\' sh "$@"\n'
    )
    script.chmod(0o700)

    compiled = compile_units([unit(sandbox.pins)], sandbox.pins, python=str(script))

    assert 3 == run(compiled)


def test_frags_programs_take_packets_of_several_pages(sandbox: Sandbox) -> None:
    plain = sandbox.compile("int gale_p(struct xdp_md *c) { return XDP_PASS; }", {"gale_p": "xdp"})
    frags = sandbox.compile(
        "int gale_f(struct xdp_md *c) { return XDP_PASS; }", {"gale_f": "xdp"}, frags=True
    )
    fd = syscalls.obj_get(frags.programs["gale_f"].pin)

    result = run_xdp(fd, bytes(9000))
    os.close(fd)

    assert (2, 9000) == (result.verdict, len(result.data))
    assert plain.programs["gale_p"].tag == frags.programs["gale_f"].tag


def test_a_verifier_error_with_frags_is_explained_as_well(sandbox: Sandbox) -> None:
    source = "int gale_f(struct xdp_md *c)\n{\n\treturn *(u8 *)(long)c->data;\n}\n"

    with pytest.raises(VerifierError, match=r"test\.bpf\.c:3: return .*outside of the packet"):
        sandbox.compile(source, {"gale_f": "xdp"}, frags=True)
