# SPDX-License-Identifier: Apache-2.0
"""Copying maps as they are, of every type that programs have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from galelb.bpf.maps import PinnedMap, close_maps, open_maps, possible_cpus
from galelb.testing.kernel import Sandbox

pytestmark = pytest.mark.bpf

SOURCE = """
struct thing {{ u32 a; u16 b; u8 c[6]; }};
GALE_MAP("hash", u32, struct thing, {0}_hash, 5000, 0)
GALE_MAP("lru_hash", u32, struct thing, {0}_lru_hash, 5000, 0)
GALE_MAP("array", u32, struct thing, {0}_array, 5000, 0)
GALE_MAP("array", u32, struct thing, {0}_mmapable, 5000, BPF_F_MMAPABLE)
GALE_MAP("percpu_array", u32, u32, {0}_percpu_array, 300, 0)
GALE_MAP("percpu_hash", u32, u32, {0}_percpu_hash, 300, 0)
GALE_MAP("lpm_trie", u64, u32, {0}_lpm_trie, 300, BPF_F_NO_PREALLOC)
int {0}_pass(struct xdp_md *ctx)
{{
	return XDP_PASS;
}}
"""
THINGS = [(n * 3, {"a": n, "b": n % 999, "c": bytes([n % 256] * 6)}) for n in range(1500)]
COUNTS = [(n, [n + cpu for cpu in range(possible_cpus())]) for n in range(300)]
ROUTES = [(n << 32 | 32, n) for n in range(1, 200)]
CONTENT = {
    "hash": THINGS,
    "lru_hash": THINGS,
    "array": THINGS,
    "mmapable": THINGS,
    "percpu_array": COUNTS,
    "percpu_hash": COUNTS,
    "lpm_trie": ROUTES,
}


@pytest.fixture(scope="module")
def maps(shared_sandbox: Sandbox) -> Iterator[dict[str, PinnedMap]]:
    opened: dict[str, PinnedMap] = {}
    for name in ("from", "to"):
        compiled = shared_sandbox.compile(SOURCE.format(name), {f"{name}_pass": "xdp"})
        opened |= open_maps(compiled.maps)
    yield opened
    close_maps(opened)


@pytest.mark.parametrize("kind", CONTENT)
def test_a_copy_holds_what_the_original_holds(maps: dict[str, PinnedMap], kind: str) -> None:
    original, copy = maps[f"from_{kind}"], maps[f"to_{kind}"]
    original.update(CONTENT[kind])
    before = sorted(original.items(), key=lambda pair: pair[0])
    original.copy_to(copy)

    assert before == sorted(original.items(), key=lambda pair: pair[0])
    assert before == sorted(copy.items(), key=lambda pair: pair[0])
    assert all(pair in before for pair in CONTENT[kind])
