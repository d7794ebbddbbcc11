# SPDX-License-Identifier: Apache-2.0
"""Gossip goes on when interfaces and addresses vanish, and when they return."""

import sys
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "plugins" / "sync_gossip"))

from galelb_plugins.sync_gossip.options import GossipOptions
from members import formed, group, until

pytestmark = pytest.mark.netns

HOSTS = {4: ("10.78.0.1/32", "10.78.0.2/32"), 6: ("fd78::1/128", "fd78::2/128")}
OPTIONS = GossipOptions(insecure=True, probe_interval=0.05)


@pytest.fixture
def space(wires):
    space = wires.namespace("gossip")
    for hosts in HOSTS.values():
        for host in hosts:
            space.ip("addr", "add", host, "dev", "lo")
    return space


def inside(space, family, tmp_path, story):
    """Run a story with two members of that family, none of them started, in the namespace."""

    async def main():
        async with group(2, tmp_path, options=OPTIONS, started=0) as (members, nursery):
            addresses = [(ip_address(one.partition("/")[0]), 7946) for one in HOSTS[family]]
            for number, member in enumerate(members):
                member.address = addresses[number]
                member.peers = (addresses[1 - number],)
                member.fresh()
            await story(members, nursery)

    space.trio(main)


def alone(members):
    return all(not one.core.alive() for one in members)


async def talk(members, word):
    for one in members:
        one.transport.write(word, one.name.encode())
    for one, other in (members, members[::-1]):
        await until(partial(_heard, one, other.name, word))


def _heard(one, name, word):
    return one.core.of(name).get(word) == name.encode()


@pytest.mark.parametrize("family", HOSTS)
def test_an_interface_goes_down_and_up(space, family, tmp_path):
    async def story(members, nursery):
        for one in members:
            await one.start(nursery)
        await formed(members)
        space.ip("link", "set", "lo", "down")
        await until(lambda: alone(members))
        # IPv6 addresses do not survive it.
        space.ip("link", "set", "lo", "up")
        if family == 6:
            for host in HOSTS[6]:
                space.ip("addr", "replace", host, "dev", "lo")

        await formed(members)
        await talk(members, "again")

    inside(space, family, tmp_path, story)


@pytest.mark.parametrize("family", HOSTS)
def test_an_address_vanishes_and_returns(space, family, tmp_path):
    host = HOSTS[family][0]

    async def story(members, nursery):
        for one in members:
            await one.start(nursery)
        await formed(members)
        space.ip("addr", "del", host, "dev", "lo")
        await until(lambda: alone(members))
        space.ip("addr", "add", host, "dev", "lo")

        await formed(members)
        await talk(members, "again")

    inside(space, family, tmp_path, story)


@pytest.mark.parametrize("family", HOSTS)
def test_an_address_may_come_after_the_start(space, family, tmp_path):
    host = HOSTS[family][0]

    async def story(members, nursery):
        space.ip("addr", "del", host, "dev", "lo")
        for one in members:
            await one.start(nursery)
        await until(lambda: members[0].member.streams.counts["out", "failed"] >= 2)
        space.ip("addr", "add", host, "dev", "lo")

        await formed(members)
        await talk(members, "met")

    inside(space, family, tmp_path, story)
