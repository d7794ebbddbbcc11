# SPDX-License-Identifier: Apache-2.0
"""What announce_arp adds to the core's announcements: options, and a reload."""

import pytest
import trio
from galelb_plugins.announce_arp.plugin import AnnounceArp, AnnounceArpOptions
from pydantic import ValidationError

from galelb.config.models import BalancerConfig
from galelb.group import neighbours
from galelb.group.neighbour_schedule import delays
from galelb.plugins import Plugins
from galelb.testing.contract.announcer import VIPS, AnnouncerContract


class TestContract(AnnouncerContract):
    announcer = AnnounceArp


@pytest.fixture
def sent(monkeypatch):
    """Return what was sent, as (seconds since the start, address)."""
    told = []
    monkeypatch.setattr(
        neighbours,
        "announce_to_neighbours",
        lambda held: told.append((round(trio.current_time(), 3), str(held.address))),
    )
    return told


def make(tmp_path, **options):
    class Here(TestContract):
        def options(self, directory):
            return AnnounceArpOptions(**options)

    return Here().make(tmp_path)


async def test_a_vip_is_announced_so_often_and_then_refreshed(
    tmp_path, sent, nursery, autojump_clock
):
    announcer = make(tmp_path, repeat=6, refresh=10.0)
    await nursery.start(announcer.run)
    begun = trio.current_time()
    announcer.announce(VIPS[:1])

    await trio.sleep(28)

    times = [round(at - begun, 3) for at, _ in sent]
    assert [0, 0.3, 1.1, 3, 5, 7, 17, 27] == times


async def test_what_is_withdrawn_is_not_announced_any_more(tmp_path, sent, nursery, autojump_clock):
    announcer = make(tmp_path)
    await nursery.start(announcer.run)
    announcer.announce(VIPS)
    await trio.sleep(0.1)
    announcer.announce(VIPS[:1])
    await trio.sleep(0.3)
    await announcer.withdraw()
    told = len(sent)
    await trio.sleep(100)

    assert 4 == told == len(sent)


async def test_other_options_hold_after_a_reload(tmp_path, sent, nursery, autojump_clock):
    announcer = make(tmp_path, refresh=1000.0)
    await nursery.start(announcer.run)
    announcer.announce(VIPS[:1])
    await trio.sleep(10)
    sent.clear()

    announcer.reload(AnnounceArpOptions(repeat=1, refresh=5.0), BalancerConfig.model_construct())
    await trio.sleep(11)

    assert 3 == len(sent)
    assert 1 == announcer.options.repeat


@pytest.mark.parametrize(("repeat", "last"), [(1, 0), (2, 0.3), (4, 3), (5, 5), (60, 115)])
def test_delays(repeat, last):
    found = delays(repeat)

    assert (repeat, last) == (len(found), found[-1])
    assert sorted(set(found)) == list(found)


@pytest.mark.parametrize("options", [{"repeat": 0}, {"repeat": 61}, {"refresh": "1ms"}])
def test_odd_options_are_refused(options):
    with pytest.raises(ValidationError):
        AnnounceArpOptions(**options)


def test_it_is_registered():
    assert AnnounceArp is Plugins.discover(environ={}).find("announcer", "announce_arp")
