# SPDX-License-Identifier: Apache-2.0
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from galelb.bpf import helper, shares, syscalls
from galelb.bpf.artefacts import Artefacts
from galelb.bpf.compile import Compiled, Unit, compile_units
from galelb.bpf.compose import Part, compose
from galelb.bpf.maps import close_maps, open_maps
from galelb.bpf.testrun import run_xdp
from galelb.errors import CompileError, MapError, VerifierError
from galelb.testing.kernel import Sandbox

pytestmark = pytest.mark.bpf

MAPS = """
GALE_MAP("array", u32, u64, totals, 4, 0)
GALE_MAP("lru_hash", u32, u64, seen, 1024, BPF_F_NO_COMMON_LRU)
GALE_MAP("prog_array", u32, u32, tails, 4, 0)
GALE_MAP("ringbuf", u32, u64, told, 4096, 0)
"""
PROGRAMS = """
#define GALE_FN(name) gale_xdp_##name

static __always_inline int count(u32 key, u64 by)
{
	u64 *total = totals.lookup(&key);

	if (total)
		*total += by;
	seen.update(&key, &by);
	return XDP_TX;
}

int GALE_FN(one)(struct xdp_md *ctx)
{
	return count(1, STEP);
}

int GALE_FN(two)(struct xdp_md *ctx)
{
	count(2, 10);
	tails.call(ctx, 0);
	return XDP_DROP;
}

int three(struct xdp_md *ctx)
{
	return count(3, 100);
}
"""
FUNCTIONS = {"gale_xdp_one": "xdp", "gale_xdp_two": "xdp", "three": "xdp"}
NO_PYTHON = "/no/such/python"


def unit(pins: Path, programs: str = PROGRAMS, **defines: int) -> Unit:
    parts = [Part("maps.h", MAPS), Part("programs.bpf.c", programs)]
    return Unit(compose(parts, {"STEP": 1} | defines, pins), FUNCTIONS)


def use(compiled: Compiled) -> list[int]:
    """Run all programs once and return the totals."""
    for program in compiled.programs.values():
        fd = syscalls.obj_get(program.pin)
        run_xdp(fd, bytes(64))
        os.close(fd)
    maps = open_maps(compiled.maps)
    try:
        return [int(maps["totals"].get(key)) for key in range(4)]
    finally:
        close_maps(maps)


def tags(compiled: Compiled) -> dict[str, str]:
    return {name: program.tag for name, program in compiled.programs.items()}


@pytest.fixture
def in_halves(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it to have everything compiled in two shares from then on."""

    def halve() -> None:
        monkeypatch.setattr("galelb.bpf.shares._WORTH", 0)
        monkeypatch.setattr("galelb.bpf.build._most", lambda: 2)

    return halve


def test_two_compilers_make_the_same_programs_as_one(
    sandbox: Sandbox, in_halves: Callable[[], None]
) -> None:
    whole = compile_units([unit(sandbox.pins / "a")], sandbox.pins / "a")
    in_halves()
    parted = compile_units([unit(sandbox.pins / "b")], sandbox.pins / "b")

    assert 2 == len(shares.split(unit(sandbox.pins).composition.active, FUNCTIONS, 2))
    assert tags(whole) == tags(parted)
    assert set(FUNCTIONS) == set(parted.programs)
    assert [0, 1, 10, 100] == use(parted)


def test_two_loaders_share_every_map(sandbox: Sandbox, in_halves: Callable[[], None]) -> None:
    in_halves()
    for number in range(5):
        pins = sandbox.pins / f"try{number}"
        compiled = compile_units([unit(pins)], pins)

        assert [0, 1, 10, 100] == use(compiled)
        assert 7 == len(list(pins.iterdir()))


def test_an_error_in_one_half_is_told_with_its_line(
    sandbox: Sandbox, in_halves: Callable[[], None]
) -> None:
    in_halves()
    with pytest.raises(CompileError, match=r"programs\.bpf\.c:28: use of undeclared identifier"):
        compile_units([unit(sandbox.pins, PROGRAMS.replace("3, 100", "3, x"))], sandbox.pins)

    refused = PROGRAMS.replace("return count(3, 100);", "return *(u8 *)(long)ctx->data;")
    with pytest.raises(VerifierError, match=r"refused three at programs\.bpf\.c:28: return"):
        compile_units([unit(sandbox.pins, refused)], sandbox.pins)

    assert [] == [path.name for path in sandbox.pins.iterdir() if path.name.startswith("prog-")]


def test_a_known_text_needs_no_compiler(
    sandbox: Sandbox, tmp_path: Path, in_halves: Callable[[], None]
) -> None:
    in_halves()
    artefacts = Artefacts(tmp_path / "cache")
    first = compile_units([unit(sandbox.pins / "a")], sandbox.pins / "a", artefacts=artefacts)
    second = compile_units(
        [unit(sandbox.pins / "b")], sandbox.pins / "b", artefacts=artefacts, python=NO_PYTHON
    )

    assert tags(first) == tags(second)
    assert first.maps.keys() == second.maps.keys()
    assert [[0, 1, 10, 100]] * 2 == [use(first), use(second)]
    assert not second.cached


def test_another_text_is_compiled(sandbox: Sandbox, tmp_path: Path) -> None:
    artefacts = Artefacts(tmp_path / "cache")
    compile_units([unit(sandbox.pins)], sandbox.pins, artefacts=artefacts)

    other = compile_units([unit(sandbox.pins, STEP=5)], sandbox.pins, artefacts=artefacts)

    assert [0, 5, 10, 100] == use(other)
    assert 2 == len(list(artefacts.folder.iterdir()))


@pytest.mark.parametrize("code", ["", "AAAAAAAAAAA=", "!", None])
def test_kept_programs_that_cannot_be_loaded_are_compiled_again(
    sandbox: Sandbox, tmp_path: Path, code: str | None
) -> None:
    artefacts = Artefacts(tmp_path / "cache")
    one = unit(sandbox.pins)
    compile_units([one], sandbox.pins, artefacts=artefacts)
    kept = artefacts.read(one.digest) or {}
    for program in kept["programs"].values():
        program["code"] = code
    artefacts.write(one.digest, kept)

    compiled = compile_units([unit(sandbox.pins)], sandbox.pins, artefacts=artefacts)

    assert [0, 1, 10, 100] == use(compiled)
    assert kept != artefacts.read(one.digest)


def test_a_pinned_map_of_another_shape_is_named(sandbox: Sandbox) -> None:
    one = unit(sandbox.pins)
    pin = one.composition.maps["totals"]
    fd = syscalls.map_create(2, key_size=4, leaf_size=8, entries=9, flags=0, name="totals")
    syscalls.obj_pin(fd, pin)
    os.close(fd)

    with pytest.raises(MapError, match=f"{pin} has another shape"):
        compile_units([one], sandbox.pins)


def test_compilers_that_are_ready_are_used_and_the_rest_ends(sandbox: Sandbox) -> None:
    helper.get_ready(3)
    processes = [one.process for one in helper._ready]

    compiled = compile_units([unit(sandbox.pins)], sandbox.pins)

    assert [0, 1, 10, 100] == use(compiled)
    assert [] == helper._ready
    codes = sorted(process.returncode for process in processes)
    assert [-signal.SIGKILL, -signal.SIGKILL, 0] == codes
