# SPDX-License-Identifier: Apache-2.0
"""What the kernel's own tunnel devices unpack."""

from ipaddress import ip_address

import pytest

from galelb.model import Interface
from galelb.node.kernel_tunnels import is_up, missing_tunnels, tunnel_devices
from galelb.node.tunnels import End

V4, V6 = ip_address("192.0.2.80"), ip_address("2001:db8:80::1")


def device(kind: str) -> Interface:
    return Interface(name=f"{kind}0", ifindex=3, mac="00:00:00:00:00:00", mtu=1480, kind=kind)


@pytest.mark.parametrize(
    ("end", "outer", "kind"),
    [
        (End(V4), 4, "ipip"),
        (End(V6), 4, "sit"),
        (End(V4), 6, "ip6tnl"),
        (End(V6), 6, "ip6tnl"),
        (End(V4, 6080), 4, "ipip"),
    ],
)
def test_each_family_has_its_device(end, outer, kind):
    others = [device(one) for one in ("ipip", "sit", "ip6tnl", "veth") if one != kind]

    assert [] == list(missing_tunnels([end], [outer], [*others, device(kind)]))
    assert 1 == len(list(missing_tunnels([end], [outer], others)))


def test_the_command_makes_the_device_work():
    ((what, command),) = missing_tunnels([End(V4)], [4], [])

    assert "packets to 192.0.2.80 come inside IP packets and stay there" == what
    assert "modprobe ipip && ip link set tunl0 up" == command


def test_gue_has_a_port_as_well():
    ((what, command),) = missing_tunnels([End(V4, 6080)], [6], [])

    assert "UDP port 6080" in what
    assert command.startswith("modprobe fou && ip fou add port 6080 -6 gue && modprobe ip6_tunnel")


def test_an_interface_that_does_not_exist_is_not_up():
    assert not is_up("gale-no-such")


def test_only_tunnel_devices_that_are_up_unpack():
    assert [] == tunnel_devices([device("veth"), device("ipip")])
