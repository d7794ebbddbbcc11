# SPDX-License-Identifier: Apache-2.0
"""Pages of flows: whoever follows cursors sees each flow that stays exactly once."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

from hypothesis import given
from hypothesis import strategies as st

from galelb.api.limits import MAX_CURSOR
from galelb.api.paging import cursor_text, flow_key, key_of_cursor, page_of
from galelb.model import Flow, Protocol


def flow(service: str, client: str, port: int, protocol: Protocol = Protocol.TCP) -> Flow:
    return Flow(
        service=service,
        protocol=protocol,
        client=ip_address(client),
        client_port=port,
        node=IPv4Address("10.0.0.11"),
        source=IPv4Address("10.0.0.1"),
        source_port=port,
        state="established",
        idle_s=0.0,
    )


FLOWS = st.lists(
    st.builds(
        flow,
        st.sampled_from(["web", "dns"]),
        st.sampled_from(["198.51.100.7", "198.51.100.8", "2001:db8::7"]),
        st.integers(1, 40),
        st.sampled_from(Protocol),
    ),
    max_size=40,
    unique_by=flow_key,
)


@given(stay=FLOWS, others=FLOWS, limit=st.integers(1, 7), data=st.data())
def test_flows_that_stay_are_seen_once_whatever_comes_and_goes(
    stay: list[Flow], others: list[Flow], limit: int, data: st.DataObject
) -> None:
    seen: list[Flow] = []
    after, more = None, True
    while more:
        passing = data.draw(st.lists(st.sampled_from(others), unique=True)) if others else []
        table = data.draw(st.permutations(list({*stay, *passing})))
        page = page_of(table, limit=limit, after=after)
        seen += page.flows
        after, more = page.next, page.next is not None

    assert sorted(stay, key=flow_key) == [one for one in seen if one in stay]
    assert len(seen) == len(set(seen))


@given(flows=FLOWS, limit=st.integers(1, 10), offset=st.integers(0, 50))
def test_an_offset_leaves_out_the_first(flows: list[Flow], limit: int, offset: int) -> None:
    page = page_of(flows, limit=limit, offset=offset)

    assert sorted(flows, key=flow_key)[offset : offset + limit] == list(page.flows)
    assert len(flows) == page.total
    assert (page.next is not None) == (offset + limit < len(flows))


@given(FLOWS)
def test_cursors_carry_keys(flows: list[Flow]) -> None:
    for key in map(flow_key, flows):
        assert key == key_of_cursor(cursor_text(key))


def test_the_longest_key_fits() -> None:
    longest = flow("x" * 63, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535)

    assert len(cursor_text(flow_key(longest))) <= MAX_CURSOR


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
def test_what_is_no_cursor_is_none(text: str) -> None:
    key = key_of_cursor(text)

    assert key is None or len(key) == 7
