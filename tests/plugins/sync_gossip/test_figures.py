# SPDX-License-Identifier: Apache-2.0
"""What a member shows of itself, and what it costs who needs none."""

import subprocess
import sys

import trio
from galelb_plugins.sync_gossip import figures
from members import formed, group, until

from galelb.api.exposition import exposition
from galelb.testing.metrics_lint import lint_metrics


def sample(transport, name, **labels):
    (value,) = [
        one.value for one in transport.metrics() if (one.name, one.labels) == (name, labels)
    ]
    return value


async def test_metrics_follow_prometheus_and_count(tmp_path):
    async with group(3, tmp_path) as (members, _):
        assert [] == lint_metrics(exposition(members[0].transport.metrics()).decode())
        await formed(members)
        await members[2].kill()
        await until(lambda: members[0].core.alive() == {"m2"})
        transport = members[0].transport

        assert [] == lint_metrics(exposition(transport.metrics()).decode())
        assert 1 == sample(transport, "galelb_gossip_members", state="alive")
        assert 1 == sample(transport, "galelb_gossip_members", state="dead")
        for direction in ("sent", "received"):
            assert 0 < sample(transport, "galelb_gossip_datagrams_total", direction=direction)
        await until(
            lambda: sample(transport, "galelb_gossip_streams_total", direction="out", result="ok")
        )


async def test_peers_that_were_never_met_are_told_after_a_while(tmp_path, monkeypatch):
    async with group(3, tmp_path, started=2) as (members, _):
        await formed(members[:2])
        assert [] == members[0].transport.notes()

        monkeypatch.setattr(figures, "_GRACE_S", 0.0)

        host = members[2].address[0]
        text = f"sync_gossip: no balancer of this group was ever met at {host}, port 7946"
        assert [text] == members[0].transport.notes()


async def test_a_member_that_is_slow_itself_says_so(tmp_path):
    async with group(1, tmp_path) as (members, _):
        members[0].member.swim._health.score = 4

        assert (
            "this balancer itself answers late (health score 4 of 8)"
            in (members[0].transport.notes()[0])
        )


async def test_there_is_something_to_see_before_the_start(tmp_path):
    async with group(1, tmp_path, started=0) as (members, _):
        await trio.lowlevel.checkpoint()

        assert [] == members[0].transport.notes()
        assert members[0].transport.metrics()


def test_who_is_in_no_group_does_not_import_cryptography():
    code = (
        "import sys; from galelb.plugins import Plugins; Plugins.discover().infos();"
        "print([name for name in sys.modules if name.startswith('cryptography')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip()
