# SPDX-License-Identifier: Apache-2.0
"""Keys of a running group: needed, changed without a gap, and never half taken."""

import contextlib
from functools import partial
from ipaddress import ip_address

import attrs
import pytest
from galelb_plugins.sync_gossip.options import GossipOptions, choose_ring
from galelb_plugins.sync_gossip.plugin import SyncGossip
from members import formed, group, until
from pydantic import ValidationError

from galelb.errors import GaleError
from galelb.group.key_file import add_key, create_keys, drop_key, promote_key, write_keys


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "group.key"
    write_keys(path, create_keys(), new=True)
    return path


def change(path, step):
    from galelb.group.key_file import read_keys

    write_keys(path, step(read_keys(path)), new=False)


def with_key(path):
    return GossipOptions(key_file=path, probe_interval=0.05)


async def test_a_key_is_changed_without_a_gap(tmp_path, key_file):
    """Members are a step apart for a while, in each order, and all hear each other all the time."""
    async with group(3, tmp_path, options=with_key(key_file)) as (members, _):
        await formed(members)
        said = {}
        for number, step in enumerate((add_key, promote_key, drop_key)):
            change(key_file, step)
            for place in range(3):
                one = members[(number + place) % 3]
                one.transport.reload(one.options)
                for each in members:
                    key, value = f"{number} {place}", each.name.encode()
                    each.transport.write(key, value)
                    said[each.name, key] = value
                for each in members:
                    await until(partial(each.knows, said))

        for one in members:
            assert [2] == list(one.transport.keys.keys)
            for reason in ("unknown_key", "not_authentic"):
                assert 0 == one.member.refusals.counts[reason]
            assert {"m1", "m2", "m3"} - {one.name} == set(one.core.peers)


async def test_streams_and_datagrams_use_the_new_key_at_once(tmp_path, key_file):
    async with group(2, tmp_path, options=with_key(key_file)) as (members, nursery):
        await formed(members)
        for step in (add_key, promote_key):
            change(key_file, step)
            for one in members:
                one.transport.reload(one.options)
        change(key_file, drop_key)
        members[0].transport.reload(members[0].options)
        await members[0].kill()
        members[0].fresh()
        await members[0].start(nursery)  # has the new key only

        await formed(members)
        heard = members[0].member.datagrams["received"]
        await until(lambda: members[0].member.datagrams["received"] >= heard + 10)
        assert 0 == members[0].member.refusals.counts["unknown_key"]


async def test_who_has_another_key_is_told_to_both(tmp_path, key_file):
    other = tmp_path / "other.key"
    write_keys(other, create_keys(), new=True)
    async with group(2, tmp_path, options=with_key(key_file), started=0) as (members, nursery):
        members[1].options = with_key(other)
        members[1].fresh()
        for one in members:
            await one.start(nursery)

        for one, peer in (members, members[::-1]):
            text = f"what comes from {peer.address[0]} has another key than this balancer"
            await until(lambda one=one, text=text: text in " ".join(one.transport.notes()))
            assert [] == one.core.events


async def test_the_note_of_a_change_goes_with_it(tmp_path, key_file):
    async with group(1, tmp_path, options=with_key(key_file)) as (members, _):
        transport = members[0].transport
        assert [] == transport.notes()
        change(key_file, add_key)
        transport.reload(transport.options)

        assert ["sync_gossip: the key is being changed: 1 encrypts, 2 is read, too"] == (
            transport.notes()
        )


@pytest.mark.parametrize("content", [None, "1 abc", ""])
async def test_a_broken_key_file_changes_nothing_on_reload(tmp_path, key_file, content):
    async with group(2, tmp_path, options=with_key(key_file)) as (members, _):
        await formed(members)
        before = members[0].transport.keys
        if content is None:
            key_file.unlink()
        else:
            key_file.write_text(content)

        with pytest.raises(GaleError, match=str(key_file)):
            members[0].transport.reload(members[0].options)

        assert before is members[0].transport.keys
        members[0].transport.write("still", b"works")
        await until(lambda: members[1].core.of("m1") == {"still": b"works"})


async def test_other_times_are_taken_over(tmp_path, key_file):
    async with group(2, tmp_path, options=with_key(key_file)) as (members, _):
        await formed(members)
        for one in members:
            one.transport.reload(GossipOptions(key_file=key_file, probe_interval=1.0))

        assert 1.0 == members[0].member.swim._timing.probe_s
        assert 2.0 == members[0].member.swim._timing.suspicion_least_s
        assert 1.0 == members[0].transport.options.probe_interval


async def test_keys_go_with_the_file_at_the_start(tmp_path, key_file):
    async with group(1, tmp_path, options=with_key(key_file), started=0) as (members, nursery):
        key_file.unlink()

        with pytest.raises(GaleError, match="cannot be read: No such file"):
            await nursery.start(partial(members[0].transport.run))


# Which keys the options mean.


@pytest.fixture
async def context(tmp_path):
    async with group(1, tmp_path, started=0) as (members, _):
        return attrs.evolve(members[0].transport.context, address=ip_address("10.0.0.1"))


def peers(*hosts):
    return tuple((ip_address(host), 7946) for host in hosts)


@pytest.mark.parametrize("hosts", [("10.0.0.2",), ("127.0.0.1",), ("fd00::2", "::1")])
async def test_other_machines_need_a_key(context, hosts):
    with pytest.raises(GaleError, match="sync_gossip: it talks to other machines and has no key"):
        choose_ring(GossipOptions(), attrs.evolve(context, peers=peers(*hosts)))


@pytest.mark.parametrize(
    ("options", "hosts", "missing"),
    [
        (GossipOptions(), ("10.0.0.1", "10.0.0.2"), True),
        (GossipOptions(), ("127.0.0.1", "10.0.0.2"), True),
        (GossipOptions(insecure=True), ("10.0.0.1", "10.0.0.2"), False),
        (GossipOptions(), ("10.0.0.1",), False),  # oneself
        (GossipOptions(), ("127.0.0.1", "127.0.0.2"), False),
        (GossipOptions(), (), False),
    ],
)
def test_a_missing_key_is_found_with_the_configuration(options, hosts, missing):
    problems = SyncGossip.check(options, peers(*hosts))

    assert missing == any("has no key" in problem for problem in problems)


async def test_without_a_key_all_have_the_same_one(context):
    there = attrs.evolve(context, peers=peers("10.0.0.2"))
    here = attrs.evolve(context, address=ip_address("127.0.0.1"), peers=peers("127.0.0.2"))

    rings = [choose_ring(GossipOptions(insecure=True), there), choose_ring(GossipOptions(), here)]

    assert rings[0] == rings[1]


async def test_who_expects_nobody_lets_nobody_in(context):
    first, second = (choose_ring(GossipOptions(), context) for _ in range(2))

    assert first != second
    assert first != choose_ring(GossipOptions(insecure=True), context)


async def test_a_group_without_a_key_says_so(tmp_path):
    async with group(1, tmp_path, options=GossipOptions(insecure=True)) as (members, _):
        assert "insecure = true: whoever can reach its port" in members[0].transport.notes()[0]


def test_a_key_file_is_checked_with_the_configuration(tmp_path, key_file):
    with contextlib.suppress(ValidationError):
        GossipOptions(key_file=key_file, insecure=True)
        raise AssertionError("both at once")
    key_file.chmod(0o644)
    with pytest.raises(ValidationError, match="everybody can read"):
        GossipOptions(key_file=key_file)
    with pytest.raises(ValidationError, match="No such file"):
        GossipOptions(key_file=tmp_path / "none")


@pytest.mark.parametrize(
    "options",
    [{"probe_interval": 0.01}, {"probe_interval": 11.0}, {"suspicion_periods": 0.5}],
)
def test_times_that_cannot_work_are_refused(options):
    with pytest.raises(ValidationError):
        GossipOptions(**options)
