# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
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


def test_a_cache_that_cannot_be_written_is_done_without(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    compiled = compile_units([unit(sandbox.pins)], sandbox.pins, cache=tmp_path / "file" / "cache")

    assert not compiled.cached
    assert run(compiled) == 3


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


def test_the_compiler_keeps_its_capabilities_and_reads_no_kernel_symbols() -> None:
    code = """
import os, sys
from pathlib import Path
from galelb.bpf.compiler import spare_kernel_symbols
def capabilities():
    return [line for line in Path("/proc/self/status").read_text().splitlines() if "CapEff" in line]
before = capabilities()
spare_kernel_symbols()
print(os.geteuid() == 0, capabilities() == before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "True"]
