# SPDX-License-Identifier: Apache-2.0
"""What balancers' advice comes to."""

from ipaddress import ip_address

import pytest

from galelb.node.tunnels import End
from galelb.node.wire import DECAP_GUE, DECAP_IPIP, VIP_ON_LO, Advice, Setup
from galelb.node.wishes import Wishes, read_wishes

V4, V6 = ip_address("192.0.2.80"), ip_address("2001:db8:80::1")
LB1, LB2 = ip_address("10.0.0.10"), ip_address("10.0.0.11")


def advice(*setups: Setup, source=LB1) -> Advice:
    return Advice(checks_timeout=1, setups=setups, source=source)


def test_every_kind_is_read():
    wishes = read_wishes(
        advice(
            Setup(VIP_ON_LO, str(V4)),
            Setup(DECAP_IPIP, str(V4)),
            Setup(DECAP_GUE, str(V6), 6080),
        ),
        (),
    )

    assert (
        Wishes(
            vips=frozenset({V4}),
            tunnels=frozenset({End(V4), End(V6, 6080)}),
            balancers=frozenset({LB1}),
        )
        == wishes
    )
    assert {V4, V6} == wishes.served


def test_without_tunnels_it_does_not_matter_where_a_balancer_is():
    assert frozenset() == read_wishes(advice(Setup(VIP_ON_LO, str(V4))), ()).balancers


@pytest.mark.parametrize("kind", [VIP_ON_LO, DECAP_IPIP, DECAP_GUE])
@pytest.mark.parametrize("vip", ["10.0.0.10", "224.0.0.1", "127.0.0.1", "::", "nonsense", ""])
def test_what_cannot_be_a_vip_is_refused(kind, vip):
    assert not read_wishes(advice(Setup(kind, vip, 6080)), ("10.0.0.10",))


@pytest.mark.parametrize(
    "setup",
    [Setup("decap_later", str(V4)), Setup(DECAP_GUE, str(V4), 0), Setup(DECAP_GUE, str(V4), 65536)],
)
def test_what_is_not_understood_is_left_out(setup):
    wishes = read_wishes(advice(setup, Setup(VIP_ON_LO, str(V4))), ())

    assert Wishes(vips=frozenset({V4})) == wishes


def test_wishes_of_all_balancers_are_fulfilled_together():
    one = read_wishes(advice(Setup(DECAP_IPIP, str(V4))), ())
    other = read_wishes(advice(Setup(DECAP_IPIP, str(V6)), source=LB2), ())
    both = Wishes.together([one, other])

    assert {End(V4), End(V6)} == both.tunnels
    assert {LB1, LB2} == both.balancers
