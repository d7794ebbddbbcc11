# SPDX-License-Identifier: Apache-2.0
"""Taking in flows, beside a model in plain Python; and what the model does not say."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import attrs
import numpy as np
import pytest
from galelb_plugins.l4_nat.codec import slice_from_leaf, slice_key_from_struct
from galelb_plugins.l4_nat.entries import FIN, RST, SEEN, SYN, TCP, EntryTable
from galelb_plugins.l4_nat.importer import FLOW_TYPE, Importer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from galelb.abi import Reason
from galelb.model import Protocol

pytestmark = pytest.mark.bpf

ADDED, UPDATED, KNOWN, REFUSED = 0, 254, 255, int(Reason.TABLE_FULL)
PORTS = (3000, 3002)
FIRST_CLIENT = {4: ip_address("203.0.113.1"), 6: ip_address("2001:db8:f::1")}


@attrs.frozen(kw_only=True)
class Told:
    """A flow as a peer tells it; ages are ticks ago."""

    client: int
    way: tuple[int, int]
    """Slice and port."""
    state: int
    back_state: int
    age: int
    back_age: int
    fresh: int = 0

    @property
    def last(self) -> int:
        return min(self.age, self.back_age)

    @property
    def closed(self) -> bool:
        either, both = self.state | self.back_state, self.state & self.back_state
        return bool(either & RST or both & FIN)

    def idle(self, timeouts: dict[str, int]) -> bool:
        name = "established" if self.state & SEEN else "syn"
        if (self.state | self.back_state) & (FIN | RST):
            name = "fin"
        return self.last > timeouts[name]


def merge(ours: tuple[int, int], theirs: tuple[int, int], fresh: bool) -> tuple[int, int]:
    """Return the state and age of a side after what a peer says of it."""
    (state, age), (told, told_age) = ours, theirs
    newest = told if told_age < age or (told_age == age and fresh) else state
    rst = (state | told) & RST if told_age == age and not fresh else newest & RST
    return (state | told) & ~RST | rst, min(age, told_age)


class Model:
    """What the tables hold after flows were taken in at one moment."""

    def __init__(self, timeouts: dict[str, int]) -> None:
        self.timeouts = timeouts
        self.flows: dict[int, Told] = {}
        self.closed_ports: dict[tuple[int, int], int] = {}

    def take_in(self, told: Told) -> int:
        ours = self.flows.get(told.client)
        if ours is None:
            return ADDED if self._place(told) else REFUSED
        over = (ours.idle(self.timeouts) or ours.closed) and not told.closed
        if ours.way == told.way:
            new = told if over and told.last < ours.last else self._merged(ours, told)
            self.flows[told.client] = attrs.evolve(new, fresh=0)
            return KNOWN if self.flows[told.client] == attrs.evolve(ours, fresh=0) else UPDATED
        if not over and not told.age < ours.age:
            return REFUSED
        if not self._place(told):
            return REFUSED
        self.closed_ports[ours.way] = ours.last
        return UPDATED

    def _merged(self, ours: Told, told: Told) -> Told:
        state, age = merge((ours.state, ours.age), (told.state, told.age), bool(told.fresh & 1))
        back = merge(
            (ours.back_state, ours.back_age), (told.back_state, told.back_age), bool(told.fresh & 2)
        )
        return attrs.evolve(ours, state=state, age=age, back_state=back[0], back_age=back[1])

    def _place(self, told: Told) -> bool:
        holder = next((one for one in self.flows.values() if one.way == told.way), None)
        if holder is not None:
            if not holder.idle(self.timeouts) and told.last >= holder.last:
                return False
            del self.flows[holder.client]
        elif told.way in self.closed_ports:
            closed = self.closed_ports[told.way]
            if told.last >= closed and closed <= self.timeouts["closed"]:
                return False
        self.closed_ports.pop(told.way, None)
        self.flows[told.client] = told
        return True


class Table:
    """The tables of a runner with one node's slice twice over: two nodes, three ports."""

    def __init__(self, runner, version: int) -> None:
        self.runner, self.version = runner, version
        self.importer = Importer(runner)
        self.service = next(n for n, one in runner.services.items() if one.name == f"tcp{version}")
        self.slices = sorted(
            slice_from_leaf(leaf).id
            for key, leaf in runner.maps["l4_nat_slices"].items()
            if key["family"] == version
            and slice_key_from_struct(key).protocol is Protocol.TCP
            and slice_key_from_struct(key).target_port == 8080
        )[:2]

    def clear(self) -> None:
        for name in ("flows", "ports"):
            memory = self.runner.maps[f"l4_nat_{name}{self.version}"].mmap()
            memory[:] = bytes(len(memory))

    def take_in(self, flows: list[Told]) -> list[int]:
        made = np.zeros(len(flows), FLOW_TYPE)
        for number, one in enumerate(flows):
            client = FIRST_CLIENT[self.version] + one.client
            made[number] = (
                struct.unpack("4I", client.packed.ljust(16, b"\0")),
                self.slices[one.way[0]],
                40000,
                one.way[1],
                self.service,
                self.version,
                one.state,
                one.back_state,
                one.fresh,
                one.age,
                one.back_age,
                0,
                0,
            )
        return self.importer.take_in(made).tolist()

    def flows(self, tick: int) -> dict[int, Told]:
        backs = dict(
            EntryTable(self.runner.maps[f"l4_nat_ports{self.version}"], self.version).used()
        )
        parts = {
            leaf["id"]: slice_from_leaf(leaf)
            for _, leaf in self.runner.maps["l4_nat_slices"].items()
        }
        found = {}
        for _, one in EntryTable(
            self.runner.maps[f"l4_nat_flows{self.version}"], self.version
        ).used():
            part = parts[one.first]
            back = backs.pop(part.base + one.second - part.first_port)
            assert (one.client, one.client_port) == (back.client, back.client_port)
            client = int(one.client) - int(FIRST_CLIENT[self.version])
            found[client] = Told(
                client=client,
                way=(self.slices.index(one.first), one.second),
                state=one.state,
                back_state=back.state,
                age=(tick - one.age) % 65536,
                back_age=(tick - back.age) % 65536,
            )
        assert {} == backs, "ways back without flows"
        return found


@pytest.fixture(params=[4, 6])
def table(request, runners) -> Table:
    runner = runners.make(
        "xdp", fresh="model", mode="full_nat", ports=PORTS, max_flows=1024, max_slices=32
    )
    return Table(runner, request.param)


HALF_OPEN, OPEN = (TCP | SYN, TCP), (TCP | SYN | SEEN, TCP | SEEN)
STATES = [
    HALF_OPEN,
    OPEN,
    (OPEN[0] | FIN, OPEN[1]),
    (OPEN[0] | FIN, OPEN[1] | FIN),
    (OPEN[0] | RST, OPEN[1]),
    (OPEN[0], OPEN[1] | RST),
]
AGES = st.sampled_from([0, 1, 2, 30, 40, 100])
"""Half-open flows are over after some 5 ticks, those with a FIN after some 60."""


@st.composite
def told(draw) -> Told:
    state, back_state = draw(st.sampled_from(STATES))
    return Told(
        client=draw(st.integers(0, 3)),
        way=(draw(st.integers(0, 1)), draw(st.integers(*PORTS))),
        state=state,
        back_state=back_state,
        age=draw(AGES),
        back_age=draw(AGES),
        fresh=draw(st.integers(0, 3)),
    )


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flows=st.lists(told(), min_size=1, max_size=10))
def test_flows_are_taken_in_as_the_model_says(table, audit, tick_of, flows) -> None:
    host = table.runner.world.host
    names = {"syn": 5.0, "established": 7200.0, "fin": 60.0, "closed": 60.0}
    model = Model({name: host.ticks(seconds) for name, seconds in names.items()})
    before = after = None
    while before is None or before != after:  # all of it within one tick
        table.clear()
        before = tick_of(table.runner)
        results = table.take_in(flows)
        found = table.flows(before)
        after = tick_of(table.runner)

    assert [model.take_in(one) for one in flows] == results
    assert {client: attrs.evolve(one, fresh=0) for client, one in model.flows.items()} == found
    assert [] == audit(table.runner).problems


def test_more_flows_than_the_map_holds_are_taken_in(table) -> None:
    table.clear()
    one = Told(client=1, way=(0, 3000), state=OPEN[0], back_state=OPEN[1], age=5, back_age=5)

    results = table.take_in([one] * 9000)

    assert (ADDED, 9000) == (results[0], len(results))
    assert results.count(KNOWN) + results.count(UPDATED) == 8999
    assert results.count(UPDATED) <= 20  # each new tick makes the same word of an age a later one


def test_a_port_outside_of_the_slice_is_refused(table) -> None:
    table.clear()
    one = Told(client=1, way=(0, 3003), state=OPEN[0], back_state=OPEN[1], age=0, back_age=0)

    assert [REFUSED] == table.take_in([one])
