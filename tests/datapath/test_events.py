# SPDX-License-Identifier: Apache-2.0
import ipaddress

import pytest
import trio.testing

from galelb.abi import EventType, Family
from galelb.datapath.events import ProgramEvents, event_address
from galelb.packing import address_words
from galelb.resolve.next_hops import NextHopTable


def event(kind, address="192.0.2.9", **changes):
    parsed = ipaddress.ip_address(address)
    return {
        "type": int(kind),
        "ifindex": 3,
        "addr": address_words(parsed),
        "mac": bytes(6),
        "smac": bytes(6),
        "mtu": 1500,
        "family": parsed.version,
    } | changes


@pytest.mark.parametrize("address", ["192.0.2.9", "fd00::9"])
def test_addresses_of_events_are_read_back(address):
    assert ipaddress.ip_address(address) == event_address(event(EventType.NO_NEIGHBOUR, address))
    assert event(EventType.NO_NEIGHBOUR, address)["family"] in tuple(Family)


async def run_events(nursery, *events):
    next_hops, unresolved, changes = NextHopTable(16), [], []

    async def stream():
        for one in events:
            yield one
        await trio.sleep_forever()

    component = ProgramEvents(
        stream, next_hops, unresolved=unresolved.append, changed=lambda: changes.append(1)
    )
    await nursery.start(component.run)
    await trio.testing.wait_all_tasks_blocked()
    return next_hops, unresolved, changes


async def test_a_missing_neighbour_is_asked_for(nursery):
    _, unresolved, _ = await run_events(nursery, event(EventType.NO_NEIGHBOUR))

    assert [ipaddress.ip_address("192.0.2.9")] == unresolved


async def test_a_next_hop_that_a_program_found_gets_a_number(nursery):
    found = event(EventType.NEW_NEXT_HOP, mac=b"\x02\0\0\0\0\1", smac=b"\x02\0\0\0\0\2")

    next_hops, _, changes = await run_events(nursery, found)

    (entry,) = next_hops.entries().next_hops
    assert found["mac"] == entry[1]["dst"]
    assert changes == [1]


async def test_an_unknown_event_is_ignored(nursery):
    _, unresolved, changes = await run_events(nursery, event(99), event(EventType.NO_NEIGHBOUR))

    assert len(unresolved) == 1
    assert changes == []
