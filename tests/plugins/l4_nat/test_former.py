# SPDX-License-Identifier: Apache-2.0
"""What makes tables of flows other ones, and how searches for ports go on in those."""

from ipaddress import ip_address
from types import SimpleNamespace

import pytest
from galelb_plugins.l4_nat import former
from galelb_plugins.l4_nat.codec import slice_key_to_struct, slice_to_leaf
from galelb_plugins.l4_nat.former import MARGIN, flow_layout, former_flows
from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.slices import Slice, SliceKey

from galelb.forwarder import HostView
from galelb.model import Interface, Protocol
from galelb.testing.fake_maps import FakeMap

NODE, SOURCE = ip_address("10.1.0.11"), ip_address("10.1.0.1")
KEY = SliceKey(node=NODE, source=SOURCE, target_port=80, protocol=Protocol.TCP)
ETH0 = Interface(name="eth0", ifindex=2, mac="02:00:00:00:00:02", mtu=1500, addresses=(SOURCE,))
HOST = HostView(
    private=ETH0,
    public=ETH0,
    ip_local_port_range=(32768, 60999),
    tick_shift=8,
    hz=250,
    flow_seed=1,
)


def layout(**options):
    return flow_layout(L4NatOptions(**options), [], HOST)


@pytest.mark.parametrize(
    "options", [{"max_flows": 4096}, {"max_slices": 8}, {"mode": "dnat"}, {"ports": "1024-2047"}]
)
def test_another_size_or_mode_is_another_layout(options):
    assert layout(**options) != layout()


@pytest.mark.parametrize("options", [{"udp_timeout": "9s"}, {"port_quarantine": "5s"}])
def test_what_no_entry_depends_on_is_the_same_layout(options):
    assert layout(**options) == layout()


def test_the_number_of_the_format_is_part_of_the_layout(monkeypatch):
    before = layout()
    monkeypatch.setattr(former, "FORMAT", former.FORMAT + 1)

    assert layout() != before


@pytest.mark.parametrize("text", ["", "0 full_nat 1", "99", "10 full_nat"])
def test_another_format_is_not_read(text):
    assert former_flows(L4NatOptions(), None, None, text, None) is None


def maps(first_port, count, cursor, number):
    part = Slice(id=number, base=0, first_port=first_port, count=count, node=1, source_index=0)
    slices, cursors = FakeMap("l4_nat_slices"), FakeMap("l4_nat_cursors")
    slices.set(slice_key_to_struct(KEY), slice_to_leaf(part))
    cursors.set(number, cursor)
    return SimpleNamespace(maps={"l4_nat_slices": slices, "l4_nat_cursors": cursors})


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ((1024, 4096, 100), (1024, 4096)),
        ((1024, 4096, 4096 * 3 + 4000), (1024, 4096)),
        ((1024, 4096, 100), (1100, 2000)),
        ((1024, 1024, 1000), (32768, 512)),
    ],
)
def test_searches_for_ports_go_on_behind_those_that_closed_lately(before, now):
    old, new = maps(*before, number=3), maps(*now, cursor=0, number=7)

    former._go_on_with_ports(old.maps, new.maps)

    cursor = new.maps["l4_nat_cursors"].get(7)
    port = before[0] + (before[2] + MARGIN) % before[1]
    assert 0 <= cursor < now[1]
    assert (now[0] + cursor - port) % now[1] == 0


def test_slices_that_are_new_begin_anew():
    old, new = maps(1024, 4096, 100, number=3), maps(1024, 4096, 0, number=7)
    old.maps["l4_nat_slices"] = FakeMap("l4_nat_slices")

    former._go_on_with_ports(old.maps, new.maps)

    assert new.maps["l4_nat_cursors"].get(7) == 0
