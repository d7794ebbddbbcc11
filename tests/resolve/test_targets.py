# SPDX-License-Identifier: Apache-2.0
"""A neighbour is released when its last node leaves, and never while one needs it."""

from ipaddress import ip_address

from galelb.resolve.targets import Targets

ONE, TWO, GATEWAY = (ip_address(f"10.0.0.{last}") for last in (1, 2, 254))
SHARED = (2, GATEWAY)


def test_a_shared_target_is_unused_after_its_last_node():
    targets = Targets()
    for node in (ONE, TWO):
        targets.aim(node, SHARED)
    targets.keep(SHARED)

    targets.aim(ONE, None)
    between = targets.take_unused()
    targets.aim(TWO, (2, TWO))

    assert between is None
    assert SHARED == targets.take_unused()
    assert targets.take_unused() is None
    assert not targets.is_kept(SHARED)


def test_a_target_that_is_needed_again_in_time_stays_kept():
    targets = Targets()
    targets.aim(ONE, SHARED)
    targets.keep(SHARED)
    targets.aim(ONE, None)

    targets.aim(TWO, SHARED)

    assert targets.take_unused() is None
    assert targets.is_kept(SHARED)


def test_what_was_never_kept_needs_no_release():
    targets = Targets()
    targets.aim(ONE, SHARED)

    targets.aim(ONE, None)

    assert targets.take_unused() is None


def test_aiming_tells_whether_anything_changed():
    targets = Targets()

    assert targets.aim(ONE, SHARED)
    assert not targets.aim(ONE, SHARED)
    assert (ONE,) == targets.nodes(SHARED)
    assert targets.aim(ONE, None)
    assert not targets.aim(ONE, None)
    assert () == targets.nodes(SHARED)
