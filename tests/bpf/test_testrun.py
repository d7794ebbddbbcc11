# SPDX-License-Identifier: Apache-2.0
import os
from collections.abc import Iterator

import pytest

from galelb.bpf import syscalls
from galelb.bpf.testrun import run_tc, run_xdp
from galelb.errors import BpfError
from galelb.testing.kernel import Sandbox

pytestmark = pytest.mark.bpf

SOURCE = """
int gale_grow(struct xdp_md *ctx)
{
	if (bpf_xdp_adjust_head(ctx, -8))
		return XDP_ABORTED;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	if (data + 8 > end)
		return XDP_ABORTED;
	__builtin_memset(data, 0xaa, 8);
	return XDP_TX;
}
int gale_where(struct xdp_md *ctx) { return ctx->ingress_ifindex; }
int gale_once(struct xdp_md *ctx)
{
	u8 *data = (void *)(long)ctx->data;
	if (data + 1 > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	data[0]++;
	return XDP_PASS;
}
"""
TC_SOURCE = """
int gale_tc_where(struct __sk_buff *skb) { return skb->ifindex; }
int gale_tc_ingress(struct __sk_buff *skb) { return skb->ingress_ifindex; }
int gale_tc_mark(struct __sk_buff *skb) { return skb->mark; }
int gale_tc_gso(struct __sk_buff *skb) { return skb->gso_size; }
int gale_tc_tag(struct __sk_buff *skb) { return skb->vlan_present ? skb->vlan_tci : 0; }
int gale_tc_write(struct __sk_buff *skb)
{
	u8 byte = 0x55;
	return bpf_skb_store_bytes(skb, 20, &byte, 1, 0) ? 1 : 0;
}
"""


def functions(source: str) -> list[str]:
    return [line.split("(")[0].split()[1] for line in source.splitlines() if line[:8] == "int gale"]


@pytest.fixture(scope="module")
def fds(shared_sandbox: Sandbox) -> Iterator[dict[str, int]]:
    opened: dict[str, int] = {}
    for source, kind in ((SOURCE, "xdp"), (TC_SOURCE, "tc")):
        compiled = shared_sandbox.compile(source, dict.fromkeys(functions(source), kind))
        for name, program in compiled.programs.items():
            opened[name] = syscalls.obj_get(program.pin)
    yield opened
    for fd in opened.values():
        os.close(fd)


def test_a_packet_may_grow(fds: dict[str, int]) -> None:
    result = run_xdp(fds["gale_grow"], b"\1" * 60)

    assert (3, b"\xaa" * 8 + b"\1" * 60) == (result.verdict, result.data)


def test_each_repeated_run_gets_what_the_last_one_left(fds: dict[str, int]) -> None:
    result = run_xdp(fds["gale_once"], bytes(60), repeat=5)

    assert (2, 5) == (result.verdict, result.data[0])
    assert result.duration_ns >= 0


def test_a_packet_comes_in_by_a_real_interface(sandbox: Sandbox, fds: dict[str, int]) -> None:
    index, _ = sandbox.veth("gale0", "gale1")

    result = sandbox.run(lambda: run_xdp(fds["gale_where"], bytes(60), ingress_ifindex=index))

    assert index == result.verdict


def test_tc_sees_interface_mark_and_gso(sandbox: Sandbox, fds: dict[str, int]) -> None:
    index, _ = sandbox.veth("gale0", "gale1")

    def verdict(name: str) -> int:
        frame = bytes(12) + b"\x08\x00" + bytes(3000)
        return run_tc(
            fds[name], frame, ifindex=index, ingress_ifindex=1, mark=7, gso_size=1400, gso_segs=3
        ).verdict

    names = ["gale_tc_where", "gale_tc_ingress", "gale_tc_mark", "gale_tc_gso"]
    assert [index, 1, 7, 1400] == [sandbox.run(verdict, name) for name in names]


def test_tc_may_write_and_has_no_tag_from_the_frame(fds: dict[str, int]) -> None:
    tagged = bytes(12) + b"\x81\x00\x00\x2a\x08\x00" + bytes(50)

    written = run_tc(fds["gale_tc_write"], tagged)
    tag = run_tc(fds["gale_tc_tag"], tagged)

    assert (0, tagged[:20] + b"\x55" + tagged[21:]) == (written.verdict, written.data)
    assert 0 == tag.verdict


def test_what_the_kernel_refuses_is_an_error(fds: dict[str, int]) -> None:
    with pytest.raises(BpfError, match="test run of 4 bytes: Invalid argument"):
        run_xdp(fds["gale_once"], bytes(4))
    with pytest.raises(BpfError, match="test run of 64 bytes: Bad file descriptor"):
        run_xdp(-1, bytes(64))
