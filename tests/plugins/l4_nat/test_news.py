# SPDX-License-Identifier: Apache-2.0
"""Flows are told of as they are made, without a look at the whole table."""

from __future__ import annotations

import numpy as np
import pytest
from galelb_plugins.l4_nat.news import News

from galelb.abi import Reason

KINDS = ["tcp4", "udp4", "tcp6", "udp6", "vlan4"]


@pytest.fixture
def pair(group):
    """Two balancers whose permission for new flows ends, as in every group."""

    def make(mode="full_nat", context="xdp"):
        first, second = group(mode, context, name="news")
        first.share.permit(3600, whole=True)
        first.share.changes()
        first.share.news()
        return first, second

    return make


def hear(second, batches):
    return sum(second.share.accept(batch).added for batch in batches)


@pytest.mark.bpf
@pytest.mark.parametrize("context", ["xdp", "tc"])
@pytest.mark.parametrize("mode", ["full_nat", "dnat"])
def test_new_flows_are_told_of_once(pair, audit, mode, context) -> None:
    first, second = pair(mode, context)
    assert not first.share.stirred
    plays = [first.play(kind) for kind in KINDS for _ in range(3)]
    for play in plays:
        play.open()
    assert first.share.stirred

    added = hear(second, first.share.news())

    assert [len(plays), False] == [added, first.share.stirred]
    assert [[], []] == [first.share.news(), first.share.changes()]
    for play in plays:
        there = second.take_over(play)
        answer = there.send(play.talk.to_vip(payload=b"x", **ack(play)), play.client_side)
        assert Reason.FORWARDED is answer.reason
    assert [] == audit(second.runner).problems


def ack(play):
    return {"flags": "A"} if play.tcp else {}


@pytest.mark.bpf
def test_what_the_look_has_told_is_no_news(pair) -> None:
    first, second = pair()
    first.play("tcp4").open()

    added = hear(second, first.share.changes())

    assert first.share.stirred
    assert [1, []] == [added, first.share.news()]


@pytest.mark.bpf
def test_established_flows_are_no_news(pair) -> None:
    first, second = pair()
    play = first.play("tcp4")
    play.open()
    hear(second, first.share.news())

    play.establish()

    assert not first.share.stirred


@pytest.mark.bpf
def test_a_lone_balancer_notes_nothing(pair) -> None:
    first, _ = pair()
    first.share.permit(None, whole=True)

    first.play("tcp4").open()

    assert not first.share.stirred


class Table:
    """A map of notes in memory."""

    max_entries = 1 + 8

    def __init__(self):
        self.notes = np.zeros(self.max_entries, np.uint64)

    def mmap(self):
        return self.notes

    def note(self, *hashes):
        for one in hashes:
            self.notes[1 + int(self.notes[0]) % 8] = one
            self.notes[0] += np.uint64(1)


def taken(news):
    return {version: hashes.tolist() for version, hashes in news.take().items()}


def test_notes_are_read_once_and_by_family() -> None:
    table = Table()
    table.note(1, 2)
    news = News(table)
    assert [False, {}] == [news.some, taken(news)]

    six = 5 | 1 << 31
    table.note(*range(10, 15), six, 16, 17)

    assert news.some
    assert {4: [10, 11, 12, 13, 14, 16, 17], 6: [six]} == taken(news)
    assert [False, {}] == [news.some, taken(news)]


def test_more_than_are_kept_are_left_to_the_look() -> None:
    table = Table()
    news = News(table)
    table.note(*range(9))

    assert [{}, False] == [taken(news), news.some]

    table.note(77)

    assert {4: [77]} == taken(news)
