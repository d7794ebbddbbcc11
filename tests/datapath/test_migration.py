# SPDX-License-Identifier: Apache-2.0
"""Flows go from one set of maps to another while packets go on changing them."""

from pathlib import Path

import pytest

from galelb.bpf.layout import MapLayout
from galelb.datapath import carrying
from galelb.datapath.carrying import Carrying, NotCarriedError, begin
from galelb.datapath.flow_maps import FlowMaps
from galelb.datapath.migration import Migration
from galelb.errors import GaleError, RemoteProtocolError
from galelb.flowshare import Accepted


class Share:
    """Flows as names with a number that grows with every change; a batch has one flow.

    `traffic` is called at each reading, as packets come at any time.
    """

    def __init__(self, flows=(), traffic=lambda share: None):
        self.flows = dict(flows)
        self.told = {}
        self.permitted = None
        self.traffic = traffic

    def packet(self, name):
        if name in self.flows or self.permitted != 0:
            self.flows[name] = self.flows.get(name, 0) + 1

    def permit(self, seconds, *, whole):
        assert whole
        self.permitted = seconds

    def changes(self):
        news = [f"{n} {c}".encode() for n, c in self.flows.items() if self.told.get(n) != c]
        self.told = dict(self.flows)
        self.traffic(self)
        return news

    def everything(self):
        for name, count in list(self.flows.items()):
            yield f"{name} {count}".encode()
            self.traffic(self)

    def accept(self, batch):
        name, count = batch.decode().split()
        before = self.flows.get(name, 0)
        self.flows[name] = max(before, int(count))
        return Accepted(
            added=not before, updated=0 < before < int(count), known=before >= int(count)
        )


def through(moving):
    """Carry, with packets after each step; returns what became of it."""
    moving.copy()
    moving.hold()
    result = moving.finish()
    moving.close()
    return result


def test_all_flows_arrive_as_they_are_at_last():
    steps = iter(range(1000))

    def traffic(share):
        share.packet(f"new{next(steps)}")
        share.packet("a")

    old, new = Share({"a": 1, "b": 1}, traffic), Share()
    moving = Carrying("nat", old, new)

    result = through(moving)

    held = {name for name in old.flows if name in new.flows}
    assert held == set(old.flows)
    assert result.added == len(new.flows)
    assert result.refused == result.waiting == 0


def test_no_flow_begins_between_the_last_copy_and_the_switch():
    old, new = Share({"a": 1}), Share()
    moving = Carrying("nat", old, new)
    moving.copy()
    moving.hold()

    old.packet("late")
    old.packet("a")
    moving.finish()

    assert new.flows == {"a": 2}


def test_flows_begin_again_if_programs_were_not_switched():
    old = Share({"a": 1})
    moving = Carrying("nat", old, Share())
    moving.copy()
    moving.resume()
    assert old.permitted is None
    moving.hold()
    assert old.permitted == 0

    moving.resume()
    old.packet("b")

    assert "b" in old.flows


def test_a_copy_ends_however_busy_the_balancer_is():
    def storm(share):
        for _ in range(200):
            share.packet(f"f{len(share.flows)}")

    old = Share({"a": 1}, storm)
    moving = Carrying("nat", old, Share())

    moving.copy()
    assert old.permitted is None


def test_the_time_without_new_flows_is_told():
    now = iter([0.0, 5.0, 5.5, 6.0])
    moving = Carrying("nat", Share(), Share(), clock=lambda: next(now))

    result = through(moving)

    assert (0.5, 6.0) == (result.held_s, result.took_s)


def test_what_is_refused_or_waits_is_counted():
    new = Share()
    new.accept = lambda batch: Accepted(refused=1) if batch == b"a 1" else Accepted(waiting=1)

    result = through(Carrying("nat", Share({"a": 1, "b": 1, "c": 1}), new))

    assert (0, 1, 2) == (result.added, result.refused, result.waiting)


# all forwarders of a generation


FORMER = FlowMaps(forwarder="nat", layout="1", maps={})


@pytest.fixture
def told():
    return []


@pytest.fixture
def migration(told):
    return Migration(lambda carried, lost: told.append((carried.added, lost)))


@pytest.fixture
def started(monkeypatch):
    """What `begin` returns or raises, in turn."""
    answers = []

    def fake(*_):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("galelb.datapath.migration.begin", fake)
    return answers


async def run(migration, *former):
    await migration.copy(former, None, None, None, None)
    await migration.hold()
    await migration.finish()


async def test_a_migration_says_how_many_flows_went_over(migration, told, started):
    new = Share()
    started.append(Carrying("nat", Share({"a": 1, "b": 1}), new))

    await run(migration, FORMER)

    assert told == [(2, "")]
    assert set(new.flows) == {"a", "b"}


async def test_what_is_newer_has_the_last_word(migration, started):
    order = []

    class Noted(Share):
        def everything(self):
            order.append(next(iter(self.flows)))
            return super().everything()

    new = Share()
    started += [Carrying("nat", Noted({"oldest": 1}), new), Carrying("nat", Noted({"old": 1}), new)]

    await run(migration, FORMER, FORMER)

    assert order == ["oldest", "old"]


async def test_without_maps_of_old_there_is_nothing_to_say(migration, told, started):
    started.append(None)

    await run(migration, FORMER)

    assert told == []


@pytest.mark.parametrize("error", [NotCarriedError("another format"), ZeroDivisionError("oops")])
async def test_flows_that_cannot_be_read_are_lost_loudly_and_the_start_goes_on(
    migration, told, started, error
):
    started.append(error)

    await run(migration, FORMER)

    ((added, lost),) = told
    assert added == 0
    assert str(error) in lost


@pytest.mark.parametrize("step", ["changes", "everything", "accept", "permit"])
async def test_a_share_that_fails_closes_its_maps_and_is_told_once(migration, told, started, step):
    def fail(*_, **__):
        raise RemoteProtocolError("nonsense")

    old, new, closed = Share({"a": 1}), Share(), []
    setattr(new if step == "accept" else old, step, fail)
    started.append(Carrying("nat", old, new, done=lambda: closed.append(True)))

    await run(migration, FORMER)

    assert closed == [True]
    assert ["nonsense" in lost for _, lost in told] == [True]


async def test_after_a_failed_switch_old_programs_make_flows_again(migration, told, started):
    old, closed = Share({"a": 1}), []
    started.append(Carrying("nat", old, Share(), done=lambda: closed.append(True)))
    await migration.copy([FORMER], None, None, None, None)
    await migration.hold()

    await migration.resume()
    assert (old.permitted, closed) == (None, [])
    await migration.close()

    assert closed == [True]
    assert told == []


# beginning


class Forwarder:
    flow_maps = ("nat_flows", "nat_flows6")

    def __init__(self, old, new):
        self.former_flows = lambda former, datapath, layout, view: old
        self.flow_share = lambda datapath, host: new


class Nowhere:
    def __init__(self):
        self.maps = {}

    def run_program(self, function, data, *, repeat=1):
        raise AssertionError


def layouts(tmp_path):
    pin = tmp_path / "nat_flows-000000000001"
    layout = MapLayout(
        name="nat_flows",
        type=2,
        key="unsigned int",
        leaf="unsigned int",
        key_size=4,
        leaf_size=4,
        max_entries=1,
        flags=0,
        pin=pin,
    )
    return FlowMaps(forwarder="nat", layout="1", maps={"nat_flows": layout}), pin


def test_maps_that_a_reboot_took_are_no_loss(tmp_path):
    former, _ = layouts(tmp_path)

    assert begin(former, Forwarder(Share(), Share()), Nowhere(), None, None) is None


def test_a_pin_that_is_no_map_is_a_loss(tmp_path):
    former, pin = layouts(tmp_path)
    Path(pin).touch()

    with pytest.raises(NotCarriedError, match="cannot be opened"):
        begin(former, Forwarder(Share(), Share()), Nowhere(), None, None)


@pytest.mark.parametrize(("old", "new"), [(None, Share()), (Share(), None)])
def test_a_forwarder_that_cannot_read_its_former_flows_loses_them(tmp_path, monkeypatch, old, new):
    former, pin = layouts(tmp_path)
    pin.touch()
    closed = []
    monkeypatch.setattr(carrying, "open_maps", lambda layouts: {"nat_flows": "open"})
    monkeypatch.setattr(carrying, "close_maps", closed.append)

    with pytest.raises(NotCarriedError, match="cannot read"):
        begin(former, Forwarder(old, new), Nowhere(), None, None)

    assert closed == [{"nat_flows": "open"}]


def test_a_forwarder_that_fails_closes_the_maps(tmp_path, monkeypatch):
    former, pin = layouts(tmp_path)
    pin.touch()
    closed = []
    monkeypatch.setattr(carrying, "open_maps", lambda layouts: {})
    monkeypatch.setattr(carrying, "close_maps", closed.append)
    forwarder = Forwarder(Share(), Share())

    def fail(former, datapath, layout, view):
        raise GaleError("no")

    forwarder.former_flows = fail

    with pytest.raises(GaleError, match="no"):
        begin(former, forwarder, Nowhere(), None, None)

    assert closed == [{}]


def test_a_forwarder_reads_its_maps_of_old_beside_the_others_of_now(tmp_path, monkeypatch):
    former, pin = layouts(tmp_path)
    pin.touch()
    monkeypatch.setattr(carrying, "open_maps", lambda layouts: {"nat_flows": "old"})
    now, seen = Nowhere(), []
    now.maps |= {"nat_flows": "new", "nat_flows6": "new", "gale_nodes": "new"}
    forwarder = Forwarder(None, None)

    def look(former, datapath, layout, view):
        seen.append((dict(former.maps), layout, view))
        return Share()

    forwarder.former_flows, forwarder.flow_share = look, lambda datapath, host: Share()

    assert begin(former, forwarder, now, "view", None) is not None

    assert seen == [({"nat_flows": "old", "gale_nodes": "new"}, "1", "view")]
