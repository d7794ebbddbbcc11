# SPDX-License-Identifier: Apache-2.0
from ipaddress import ip_address

from galelb.control.identity import Numbering
from galelb.control.numbers import QUIET_S, NodeNumbers


def nodes(*last):
    return [ip_address(f"10.0.0.{number}") for number in last]


def numbers(limit, *known):
    numbering = Numbering("node", limit)
    subject = NodeNumbers(numbering)
    subject.number(nodes(*known))
    return numbering, subject


def test_new_nodes_get_numbers_and_known_ones_keep_theirs():
    numbering, subject = numbers(10, 1)

    assert subject.number(nodes(1, 2))
    assert not subject.number(nodes(2, 1))
    assert {"10.0.0.1": 1, "10.0.0.2": 2} == numbering.known()


def test_nodes_beyond_the_last_number_wait_and_hold_up_nobody():
    numbering, subject = numbers(2, 1)

    subject.number(nodes(1, 2, 3))

    assert nodes(3) == list(subject.waiting)
    assert "more than 2 nodes" in subject.waiting[nodes(3)[0]]
    assert {"10.0.0.1", "10.0.0.2"} == set(numbering.known())


def test_no_number_is_taken_back_while_there_are_plenty():
    _, subject = numbers(100, 1, 2)
    subject.absent(nodes(1), 0.0)

    assert () == subject.absent(nodes(1), QUIET_S)


def test_only_nodes_gone_for_long_are_asked_for():
    _, subject = numbers(3, 1, 2, 3)

    assert [] == subject.absent(nodes(1), 0.0)
    assert [] == subject.absent(nodes(1), QUIET_S - 1)
    assert nodes(2, 3) == list(subject.absent(nodes(1), QUIET_S))


def test_a_node_that_returns_is_not_gone():
    _, subject = numbers(3, 1, 2, 3)
    subject.absent(nodes(1), 0.0)
    subject.absent(nodes(1, 2), QUIET_S / 2)

    assert nodes(3) == list(subject.absent(nodes(1), QUIET_S))


def test_those_asked_for_come_last_the_next_time():
    many = range(1, 101)
    _, subject = numbers(100, *many)
    subject.absent([], 0.0)

    first, second = (set(subject.absent([], QUIET_S)) for _ in range(2))

    assert set(nodes(*many)) == first | second


def test_what_is_taken_back_is_given_again():
    numbering, subject = numbers(2, 1, 2)
    subject.take_back(nodes(1))
    subject.number(nodes(2, 3))

    assert {"10.0.0.2": 2, "10.0.0.3": 1} == numbering.known()
    assert {} == subject.waiting
