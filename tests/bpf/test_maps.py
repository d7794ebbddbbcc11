# SPDX-License-Identifier: Apache-2.0
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from galelb.bpf import syscalls
from galelb.bpf.maps import PinnedMap, close_maps, open_maps, possible_cpus
from galelb.bpf.testrun import run_xdp
from galelb.errors import MapError
from galelb.testing.kernel import Sandbox

pytestmark = pytest.mark.bpf

SOURCE = """
struct key { u32 a; u8 b[6]; u16 pad; };
struct leaf { u64 n; u16 lanes[4]; };
GALE_MAP("array", u32, u32, numbers, 10000, 0)
GALE_MAP("array", u32, struct leaf, structs, 64, 0)
GALE_MAP("array", u32, u32, mapped, 5000, BPF_F_MMAPABLE)
GALE_MAP("hash", struct key, struct leaf, table, 20000, 0)
GALE_MAP("hash", u32, u64, plain, 64, 0)
GALE_MAP("lru_hash", struct key, u32, recent, 64, 0)
GALE_MAP("percpu_array", u32, struct leaf, counters, 300, 0)
GALE_MAP("percpu_hash", u32, u32, percpu, 64, 0)
GALE_MAP("prog_array", u32, u32, tails, 4, 0)
int gale_tail(struct xdp_md *ctx) { return 7; }
int gale_main(struct xdp_md *ctx)
{
	u32 one = 1;
	struct leaf *leaf = counters.lookup(&one);
	u32 *number = mapped.lookup(&one);

	if (leaf)
		leaf->n++;
	if (number)
		(*number)++;
	tails.call(ctx, 2);
	return 3;
}
"""


@pytest.fixture(scope="module")
def maps(shared_sandbox: Sandbox) -> Iterator[dict[str, PinnedMap]]:
    compiled = shared_sandbox.compile(SOURCE, {"gale_main": "xdp", "gale_tail": "xdp"})
    opened = open_maps(compiled.maps)
    yield opened
    close_maps(opened)


def key(number: int) -> dict[str, Any]:
    return {"a": number, "b": b"abcdef", "pad": 0}


def leaf(number: int) -> dict[str, Any]:
    return {"n": number, "lanes": (1, 2, 3, 4)}


@pytest.mark.parametrize(
    ("name", "where", "value"),
    [
        ("numbers", 5, 77),
        ("structs", 5, leaf(9)),
        ("mapped", 5, 1 << 31),
        ("table", key(5), leaf(9)),
        ("plain", 5, 1 << 63),
        ("recent", key(5), 8),
    ],
)
def test_what_is_set_is_got(maps: dict[str, PinnedMap], name: str, where: Any, value: Any) -> None:
    maps[name].set(where, value)

    assert value == maps[name].get(where)


@pytest.mark.parametrize("name", ["table", "recent"])
def test_hash_entries_come_and_go(maps: dict[str, PinnedMap], name: str) -> None:
    one = maps[name]
    one.set(key(100), {"n": 1} if name == "table" else 1)

    one.delete(key(100))
    one.delete(key(100))

    assert one.get(key(100)) is None


def test_array_elements_cannot_be_deleted(maps: dict[str, PinnedMap]) -> None:
    with pytest.raises(MapError, match="map numbers: delete: key 1"):
        maps["numbers"].delete(1)


def test_many_entries_are_written_and_read_in_batches(maps: dict[str, PinnedMap]) -> None:
    numbers = {n: n * 3 for n in range(10000)}
    table = [(key(n), leaf(n)) for n in range(15000)]

    maps["numbers"].update(numbers)
    maps["table"].update(iter(table))

    assert numbers == dict(maps["numbers"].items())
    found = {k["a"]: v for k, v in maps["table"].items() if k["b"] == b"abcdef"}
    assert {k["a"]: v for k, v in table} == found


def test_per_cpu_values_are_lists(maps: dict[str, PinnedMap]) -> None:
    cpus = possible_cpus()
    values = [leaf(cpu) for cpu in range(cpus)]

    maps["counters"].set(2, values)
    maps["counters"].update([(3, leaf(9)), (299, values)])
    maps["percpu"].set(1, 5)

    assert values == maps["counters"].get(2)
    found = dict(maps["counters"].items())
    assert (300, [leaf(9)] * cpus, values) == (len(found), found[3], found[299])
    assert [(1, [5] * cpus)] == list(maps["percpu"].items())


def test_a_list_of_another_length_than_the_cpus_is_refused(maps: dict[str, PinnedMap]) -> None:
    with pytest.raises(MapError, match="one for each possible CPU"):
        maps["percpu"].set(1, [1] * (possible_cpus() + 1))


def test_a_mapped_array_is_shared_memory_of_padded_elements(maps: dict[str, PinnedMap]) -> None:
    memory = maps["mapped"].mmap()
    try:
        struct.pack_into("I", memory, 8 * 4999, 4711)

        assert 4711 == maps["mapped"].get(4999)
        assert len(memory) >= 8 * 5000
    finally:
        memory.close()


@pytest.mark.parametrize(("first", "count"), [(0, 1), (511, 2), (700, 1300), (4999, 1), (0, 5000)])
def test_some_elements_of_an_array_can_be_mapped(
    maps: dict[str, PinnedMap], first: int, count: int
) -> None:
    maps["mapped"].update([(index, index) for index in range(5000)])
    with maps["mapped"].mapped(first, count) as part:
        found = [value for (value,) in struct.iter_unpack("I4x", part)]
        struct.pack_into("I", part, 8 * (count - 1), 4711)

    assert list(range(first, first + count)) == found
    assert 4711 == maps["mapped"].get(first + count - 1)


def test_elements_beyond_the_end_cannot_be_mapped(maps: dict[str, PinnedMap]) -> None:
    with pytest.raises(MapError, match="elements 4999 to 9999"), maps["mapped"].mapped(4999, 5000):
        pass


def test_only_mmapable_arrays_can_be_mapped(maps: dict[str, PinnedMap]) -> None:
    with pytest.raises(MapError, match=r"map numbers: mmap: .*BPF_F_MMAPABLE"):
        maps["numbers"].mmap()


def test_programs_and_python_see_the_same_values(
    maps: dict[str, PinnedMap], shared_sandbox: Sandbox
) -> None:
    functions = {"gale_main": "xdp", "gale_tail": "xdp"}
    compiled = shared_sandbox.compile(SOURCE, functions)
    main, tail = (syscalls.obj_get(compiled.programs[name].pin) for name in functions)
    maps["counters"].set(1, leaf(0))
    maps["mapped"].set(1, 0)
    try:
        without = run_xdp(main, bytes(64)).verdict
        maps["tails"].set(2, tail)
        with_tail = run_xdp(main, bytes(64), repeat=9).verdict
        maps["tails"].delete(2)
    finally:
        os.close(main)
        os.close(tail)

    assert (3, 7) == (without, with_tail)
    assert 10 == sum(value["n"] for value in maps["counters"].get(1))
    assert 10 == maps["mapped"].get(1)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (10000, 1, "map numbers: set: key 10000"),
        ("one", 1, "map numbers: set: key 'one'"),
        (-1, 1, "map numbers: set: key -1"),
        (1, 1 << 32, "map numbers: set: leaf"),
        (1, {"n": 1}, "map numbers: set: leaf"),
    ],
)
def test_what_does_not_fit_is_refused(
    maps: dict[str, PinnedMap], where: Any, value: Any, message: str
) -> None:
    with pytest.raises(MapError) as caught:
        maps["numbers"].set(where, value)

    assert str(caught.value).startswith(message)


def test_a_bad_entry_among_many_is_refused(maps: dict[str, PinnedMap]) -> None:
    with pytest.raises(MapError, match="map structs: update"):
        maps["structs"].update([(1, leaf(1)), (2, {"lanes": (1,)})])
    with pytest.raises(MapError, match="map numbers: update"):
        maps["numbers"].update({1: -1})


def test_a_full_hash_says_so(maps: dict[str, PinnedMap]) -> None:
    with pytest.raises(MapError, match="map plain: update: Argument list too long"):
        maps["plain"].update({n: n for n in range(1000)})


def test_an_index_beyond_the_array_is_no_entry(maps: dict[str, PinnedMap]) -> None:
    assert maps["numbers"].get(10000) is None


def test_a_map_of_another_shape_is_refused(maps: dict[str, PinnedMap]) -> None:
    layout = attrs.evolve(maps["numbers"].layout, max_entries=11)

    with pytest.raises(MapError, match="another shape"):
        open_maps({"numbers": layout})


def test_a_pin_that_is_gone_is_named(maps: dict[str, PinnedMap]) -> None:
    layout = attrs.evolve(maps["numbers"].layout, pin=maps["numbers"].layout.pin.with_name("gone"))
    before = list(Path("/proc/self/fd").iterdir())

    with pytest.raises(MapError, match=r"map numbers: open: No such file.*gone"):
        open_maps({"table": maps["table"].layout, "numbers": layout})

    assert len(before) == len(list(Path("/proc/self/fd").iterdir()))


def test_a_closed_map_is_an_error_not_another_map(shared_sandbox: Sandbox) -> None:
    compiled = shared_sandbox.compile(SOURCE, {"gale_main": "xdp"})
    (one,) = open_maps({"numbers": compiled.maps["numbers"]}).values()
    one.close()
    one.close()

    with pytest.raises(MapError, match="Bad file descriptor"):
        one.get(1)
    with pytest.raises(MapError, match="Bad file descriptor"):
        list(one.items())
