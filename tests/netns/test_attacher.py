# SPDX-License-Identifier: Apache-2.0
"""Attaching for real: modes, fallbacks, interfaces that come back, taking everything off."""

import pytest

from galelb.bpf.attach import pinned_programs, query_xdp
from galelb.datapath.attacher import Attacher, Entries, TcWantedError, detach, found_attachments
from galelb.errors import AttachError
from galelb.model import XdpMode
from galelb.netlink import open_netlink
from galelb.plugins import Plugins
from galelb.testing.kernel import Sandbox

pytestmark = pytest.mark.netns

SOURCE = """
int gale_xdp_entry(struct xdp_md *ctx)
{
	return XDP_PASS;
}

int gale_tc_entry(struct __sk_buff *skb)
{
	return 0;
}
"""


@pytest.fixture
def entries():
    with Sandbox() as sandbox:
        functions = {"gale_xdp_entry": "xdp", "gale_tc_entry": "tc"}
        programs = sandbox.compile(SOURCE, functions).programs
        yield Entries(
            xdp=programs["gale_xdp_entry"].pin,
            tc=programs["gale_tc_entry"].pin,
            tc_possible=True,
        )


def attached(lb, entries, *, xdp_mode="auto", wanted=None, then=None, earlier=()):
    """Attach in a namespace; returns (statuses, attachments, what `then` returned)."""

    async def main():
        async with open_netlink() as netlink:
            attacher = Attacher(
                netlink,
                Plugins(),
                xdp_mode=xdp_mode,
                wanted=wanted or {"lb0": "both"},
                earlier=earlier,
            )
            await attacher.attach_all(entries)
            answer = await then(netlink, attacher) if then else None
            return attacher.statuses(), attacher.attachments(), answer

    return lb.trio(main)


def no_native(lb, node):
    """veth refuses native XDP without fragment support when its peer's MTU is large."""
    lb.ip("link", "set", "lb0", "mtu", "9000")
    node.ip("link", "set", "node0", "mtu", "9000")


def xdp_of(lb, device="lb0"):
    ifindex = lb.ifindex(device)
    return lb.thread(lambda: query_xdp(ifindex))


def test_native_is_taken_where_it_works(pair, entries):
    lb, _ = pair

    (status,), (attachment,), _ = attached(lb, entries)

    assert (XdpMode.NATIVE, "") == (status.mode, status.reason)
    assert xdp_of(lb).mode is XdpMode.NATIVE
    assert attachment.ifindex == lb.ifindex("lb0")


def test_attaching_twice_replaces(pair, entries):
    lb, _ = pair
    attached(lb, entries)

    attached(lb, entries)

    assert xdp_of(lb).ours


def test_without_native_tc_is_taken_and_says_why(pair, entries):
    lb, node = pair
    no_native(lb, node)

    (status,), _, _ = attached(lb, entries)

    assert status.mode is XdpMode.TC
    assert "no native XDP" in status.reason
    assert "gale_ingress" in lb.call("tc", "filter", "show", "dev", "lb0", "ingress")


def test_tc_that_was_not_compiled_is_asked_for(pair, entries):
    lb, node = pair
    no_native(lb, node)

    with pytest.raises(BaseException, match="native") as caught:
        attached(lb, Entries(xdp=entries.xdp, tc_possible=True))
    assert isinstance(caught.value, TcWantedError)


def test_generic_is_taken_where_forwarders_cannot_tc(pair, entries):
    lb, node = pair
    no_native(lb, node)
    lb.call("ethtool", "-K", "lb0", "gro", "on")

    async def restore(netlink, attacher):
        off = (await netlink.offloads("lb0"))["gro"]
        await attacher.detach_all()
        return off, (await netlink.offloads("lb0"))["gro"]

    _, _, (while_attached, afterwards) = attached(lb, Entries(xdp=entries.xdp), then=restore)

    assert (False, True) == (while_attached, afterwards)
    assert xdp_of(lb) is None


def test_native_demanded_and_impossible_is_an_error(pair, entries):
    lb, node = pair
    no_native(lb, node)

    with pytest.raises(AttachError, match="lb0"):
        attached(lb, entries, xdp_mode="native")


def test_with_extra_interfaces_all_get_tc(pair, entries):
    """XDP cannot redirect to a container's veth that has no GRO; TC can."""
    lb, _ = pair
    lb.ip("link", "add", "lb8", "type", "veth", "peer", "name", "lb9")

    statuses, _, _ = attached(lb, entries, wanted={"lb0": "both", "lb8": "extra"})

    assert [(XdpMode.TC, "extra_interfaces are in use")] * 2 == [
        (status.mode, status.reason) for status in statuses
    ]


def test_native_can_be_demanded_beside_extra_interfaces(pair, entries):
    lb, _ = pair
    lb.ip("link", "add", "lb8", "type", "veth", "peer", "name", "lb9")

    statuses, _, _ = attached(
        lb, entries, xdp_mode="native", wanted={"lb0": "both", "lb8": "extra"}
    )

    assert [XdpMode.NATIVE, XdpMode.TC] == [status.mode for status in statuses]


def test_one_interface_without_native_makes_all_slower(pair, entries):
    lb, _ = pair
    lb.ip("link", "add", "br0", "type", "bridge")

    statuses, attachments, _ = attached(lb, entries, wanted={"lb0": "public", "br0": "private"})

    assert [XdpMode.TC, XdpMode.TC] == [status.mode for status in statuses]
    assert all("br0" in status.reason for status in statuses)
    assert xdp_of(lb) is None
    assert attachments[0].reason == statuses[0].reason


def test_a_restart_keeps_what_was_settled_for(pair, entries):
    """Trying native again would put two programs on one interface for a moment."""
    lb, _ = pair
    _, earlier, _ = attached(lb, entries, xdp_mode="tc")

    (status,), _, _ = attached(lb, entries, earlier=earlier)

    assert (XdpMode.TC, "xdp_mode is tc") == (status.mode, status.reason)


def test_public_egress_is_claimed_when_asked(pair, entries):
    lb, _ = pair
    both = Entries(xdp=entries.xdp, tc=entries.tc, tc_possible=True, egress=entries.tc)

    _, attachments, _ = attached(lb, both)

    assert [(a.mode, a.egress) for a in attachments] == [("native", False), ("tc", True)]
    assert "gale_egress" in lb.call("tc", "filter", "show", "dev", "lb0", "egress")


@pytest.mark.parametrize("xdp_mode", ["native", "generic", "tc"])
def test_detaching_leaves_nothing(pair, entries, xdp_mode):
    lb, _ = pair
    both = Entries(xdp=entries.xdp, tc=entries.tc, tc_possible=True, egress=entries.tc)
    _, attachments, _ = attached(lb, both, xdp_mode=xdp_mode)

    async def main():
        async with open_netlink() as netlink:
            found = await found_attachments(netlink, ["lb0", "gone0"])
            await detach(netlink, attachments)
            return found, await found_attachments(netlink, ["lb0"])

    before, after = lb.trio(main)

    assert {(a.mode, a.egress) for a in attachments} == {(a.mode, a.egress) for a in before}
    assert after == ()
    assert "clsact" not in lb.call("tc", "qdisc", "show", "dev", "lb0")


def test_another_device_of_the_same_name_is_left_alone(pair, entries):
    lb, _ = pair
    _, attachments, _ = attached(lb, entries)
    lb.ip("link", "del", "lb0")
    lb.ip("link", "add", "lb0", "type", "veth", "peer", "name", "lb9")

    async def main():
        async with open_netlink() as netlink:
            attacher = Attacher(netlink, Plugins(), xdp_mode="auto", wanted={"lb0": "both"})
            return attacher.is_current("lb0", attachments[0].ifindex)

    assert lb.trio(main) is False


def test_only_an_instances_own_programs_are_found(pair, entries):
    lb, _ = pair
    attached(lb, entries)
    own = pinned_programs(entries.xdp.parent)

    async def main(only):
        async with open_netlink() as netlink:
            return await found_attachments(netlink, ["lb0"], only=only)

    assert xdp_of(lb).program_id in own
    assert [one.interface for one in lb.trio(main, own)] == ["lb0"]
    assert lb.trio(main, frozenset()) == lb.trio(main, frozenset({1 << 31})) == ()
