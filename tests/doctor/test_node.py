# SPDX-License-Identifier: Apache-2.0
"""What keeps a node from serving."""

from ipaddress import ip_address

import attrs
import pytest

from galelb.bpf.attach import XdpState
from galelb.doctor.node import BalancerSeen, Listener, Probe, check_node
from galelb.model import XdpMode
from galelb.node.tunnels import End
from galelb.node.wishes import Wishes

VIP, VIP6 = ip_address("192.0.2.1"), ip_address("2001:db8::1")
QUIET = {
    f"net/ipv4/conf/{scope}/{key}": value
    for scope in ("all", "eth0")
    for key, value in (("arp_ignore", "1"), ("arp_announce", "2"), ("rp_filter", "0"))
}
OURS = XdpState(7, XdpMode.NATIVE, "gale_decap", True)
THEIRS = XdpState(8, XdpMode.NATIVE, "other", False)
LACKS = ("packets to 192.0.2.1 come inside IP packets", "modprobe ipip && ip link set tunl0 up")


def check(node_config, side, **sysctls):
    return check_node(node_config, side, (QUIET | sysctls).get)


def wanting(side, **wishes):
    """The same node, of whose balancer wants something else."""
    seen = attrs.evolve(side.balancers[0], wishes=Wishes(**wishes))
    return attrs.evolve(side, balancers=(seen,))


@pytest.fixture
def tunnelled(side):
    """A node that gets the VIP's packets in IP packets, by eth0."""
    end = End(VIP)
    wanted = wanting(side, vips=frozenset({VIP}), tunnels=frozenset({end}))
    return attrs.evolve(
        wanted,
        ways=(side.interfaces["eth0"],),
        xdp={"eth0": OURS},
        ends=frozenset({end}),
        kernel_lacks=(LACKS,),
    )


def test_a_good_node_has_nothing_to_mend(node_config, side, tunnelled, bad):
    assert {} == bad(check(node_config, side))
    assert {} == bad(check(node_config, tunnelled))


def test_a_node_of_whom_nothing_is_wanted_needs_nothing(node_config, side, bad):
    bare = attrs.evolve(wanting(side), interfaces={}, answers=(), listeners=())

    assert {} == bad(check(node_config, bare, **dict.fromkeys(QUIET, "1")))


def test_a_vip_that_is_missing(node_config, side, interface, bad):
    side = attrs.evolve(side, interfaces={"lo": interface("lo")}, answers=())

    found = bad(check(node_config, side))

    assert ["vip 192.0.2.1"] == list(found)
    assert ("fail", "ip address add 192.0.2.1/32 dev lo") == found["vip 192.0.2.1"][::2]


def test_a_vip_on_an_interface_that_answers_for_it(node_config, side, interface, bad):
    side = attrs.evolve(side, interfaces={"eth0": interface("eth0", "192.0.2.1")})

    found = bad(check(node_config, side))

    assert ["vip 192.0.2.1"] == list(found)
    level, text, mend = found["vip 192.0.2.1"]
    assert ("fail", True) == (level, "is on eth0" in text)
    assert mend == ("ip address flush dev eth0 to 192.0.2.1 && ip address add 192.0.2.1/32 dev lo")


@pytest.mark.parametrize(
    ("key", "value", "set_to"),
    [
        ("all/arp_ignore", "0", "1"),
        ("all/arp_announce", "0", "2"),
        ("eth0/arp_ignore", "3", "1"),
        ("eth0/rp_filter", "1", "2"),
    ],
)
def test_a_sysctl_in_the_way(node_config, side, bad, key, value, set_to):
    found = bad(check(node_config, side, **{f"net/ipv4/conf/{key}": value}))

    scope, name = key.split("/")
    assert [f"{name} {scope}"] == list(found)
    assert ("fail", f"sysctl -w net/ipv4/conf/{key}={set_to}") == found[f"{name} {scope}"][::2]


def test_ipv6_that_is_off_on_lo(node_config, side, interface, bad):
    side = attrs.evolve(
        wanting(side, vips=frozenset({VIP6})),
        interfaces={"lo": interface("lo", str(VIP6))},
        answers=(),
        listeners=(Listener(ip_address("::"), 80),),
    )

    found = bad(check(node_config, side, **{"net/ipv6/conf/lo/disable_ipv6": "1"}))

    mend = "sysctl -w net/ipv6/conf/lo/disable_ipv6=0"
    assert ("fail", mend) == found["disable_ipv6 lo"][::2]


@pytest.mark.parametrize(
    ("facts", "words", "mend"),
    [
        ({"xdp": {"eth0": None}}, f"or let the kernel do it: {LACKS[1]}", "galelb node"),
        ({"xdp": {"eth0": THEIRS}}, "program other (id 8)", "ip link set dev eth0 xdp off"),
        ({"ends": frozenset()}, "does not take packets to 192.0.2.1", "galelb node"),
    ],
)
def test_packets_that_stay_in_their_tunnels(node_config, tunnelled, bad, facts, words, mend):
    found = bad(check(node_config, attrs.evolve(tunnelled, **facts)))

    assert ["tunnels eth0"] == list(found)
    assert ("fail", mend) == found["tunnels eth0"][::2]
    assert words in found["tunnels eth0"][1]


def test_an_agent_that_may_not_leaves_tunnels_to_the_kernel(node_config, tunnelled, bad):
    settings = node_config.node.model_copy(update={"configure_host": False})
    told = node_config.model_copy(update={"node": settings})

    found = bad(check(told, attrs.evolve(tunnelled, xdp={"eth0": None})))

    assert {"tunnels eth0": LACKS[1]} == {name: one[2] for name, one in found.items()}


def test_devices_of_the_kernel_will_do(node_config, tunnelled, bad):
    side = attrs.evolve(tunnelled, xdp={"eth0": None}, kernel_lacks=())

    assert {} == bad(check(node_config, side))


def test_what_only_root_can_see(node_config, tunnelled, bad):
    unseen = {"eth0": XdpState(7, XdpMode.NATIVE, "", False)}

    found = bad(check(node_config, attrs.evolve(tunnelled, root=False, xdp=unseen)))

    assert {"agent": "warn", "tunnels eth0": "warn"} == {n: one[0] for n, one in found.items()}


def test_no_way_to_the_balancer(node_config, tunnelled, bad):
    side = attrs.evolve(tunnelled, ways=(), ways_problem=("no interface leads to a balancer",))

    assert {"tunnels": ("fail", "no interface leads to a balancer", "")} == bad(
        check(node_config, side)
    )


def test_a_balancer_that_cannot_be_reached_does_not_hide_what_others_want(
    node_config, side, interface, bad
):
    silent = BalancerSeen(name="lb-1.local:7070", problem="cannot connect")
    side = attrs.evolve(
        side, balancers=(silent, *side.balancers), interfaces={"lo": interface("lo")}, answers=()
    )

    found = bad(check(node_config, side))

    assert ["balancer lb-1.local:7070", "vip 192.0.2.1"] == list(found)


def test_checks_that_fail_and_answers_that_do_not_come(node_config, side, bad):
    side = attrs.evolve(
        side,
        checks=(Probe(name="http", problem="HTTP status 500"),),
        answers=(Probe(name="192.0.2.1:80", problem="Connection refused"),),
    )

    assert {
        "check http": ("fail", "HTTP status 500", ""),
        "answer 192.0.2.1:80": ("fail", "Connection refused", ""),
    } == bad(check(node_config, side))


@pytest.mark.parametrize(
    ("listening", "good"),
    [("0.0.0.0", True), ("::", True), ("192.0.2.1", True), ("127.0.0.1", False)],
)
def test_where_no_check_tells_the_port_somebody_must_listen_at_all(
    node_config, side, bad, listening, good
):
    side = attrs.evolve(side, answers=(), listeners=(Listener(ip_address(listening), 80),))

    found = bad(check(node_config, side))

    assert ([] if good else ["answer 192.0.2.1"]) == list(found)


def test_without_checks_and_without_a_way_back(node_config, side, bad):
    side = attrs.evolve(side, checks=(), no_default=frozenset({4, 6}))

    found = bad(check(node_config, side))

    assert {"checks": "warn", "route ipv4": "warn"} == {n: one[0] for n, one in found.items()}
