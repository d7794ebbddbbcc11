# SPDX-License-Identifier: Apache-2.0
"""What the agent notes of its changes survives it."""

import json
from ipaddress import ip_address

from galelb.node.host_record import (
    Book,
    Decapsulation,
    HostRecord,
    Sysctl,
    load_record,
    save_record,
)
from galelb.node.tunnels import End

RECORD = HostRecord(
    vips=(ip_address("192.0.2.80"), ip_address("2001:db8::1")),
    sysctls=(Sysctl("net/ipv4/conf/all/arp_ignore", "0", "1"),),
    decapsulations=(
        Decapsulation(
            interface="eth0", ifindex=2, program_id=7, mode="generic", offloads={"gro": True}
        ),
    ),
    tunnels=(End(ip_address("192.0.2.80"), 6080), End(ip_address("2001:db8::1"))),
)


def test_a_record_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "run" / "node.json"
    save_record(path, RECORD)

    assert RECORD == load_record(path)


def test_a_record_of_an_agent_that_knew_no_tunnels_is_read(tmp_path):
    path = tmp_path / "node.json"
    path.write_text(json.dumps({"vips": ["192.0.2.80"], "sysctls": []}))

    assert HostRecord(vips=(ip_address("192.0.2.80"),)) == load_record(path)


def test_what_is_no_record_counts_as_none(tmp_path):
    path = tmp_path / "node.json"
    for text in ("", "[]", '{"vips": 7}', '{"vips": [], "sysctls": [], "tunnels": [{}]}'):
        path.write_text(text)

        assert HostRecord() == load_record(path), text


async def test_a_book_with_nothing_in_it_is_no_file(tmp_path):
    path = tmp_path / "node.json"
    book = Book(path)
    await book.write(tunnels=RECORD.tunnels)
    assert HostRecord(tunnels=RECORD.tunnels) == load_record(path)

    await book.write(tunnels=())

    assert not path.exists()
