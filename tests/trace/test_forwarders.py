# SPDX-License-Identifier: Apache-2.0
"""What the real programs of each forwarder do with a file of packets, offline."""

from ipaddress import ip_address

import attrs
import pytest
from scapy.all import (
    ARP,
    ICMP,
    IP,
    TCP,
    UDP,
    Dot1Q,
    Ether,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    IPOption_NOP,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    Raw,
    fragment,
)

from galelb.flowhash import flow_hash, flow_slot
from galelb.tables.maglev import build_table
from galelb.testing.checksums import checksum_problems

pytestmark = pytest.mark.bpf

VIP, VIP6 = "203.0.113.10", "2001:db8:1::10"
CLIENT, CLIENT6 = "198.51.100.7", "2001:db8:9::7"
E = Ether(dst="02:00:00:00:00:aa", src="02:00:00:00:00:bb")
PRIVATE_MAC = "02:00:00:00:00:02"
NODES = {
    "10.0.0.11": "02:aa:00:00:00:11",
    "10.0.0.12": "02:aa:00:00:00:12",
    "fd00::11": "02:aa:00:00:01:11",
    "fd00::12": "02:aa:00:00:01:12",
}
WEIGHTS = {"10.0.0.12": 3}
OPTIONS = [f"--node={ip},mac={mac},weight={WEIGHTS.get(ip, 1)}" for ip, mac in NODES.items()]
SIZE = 65537


def services(forwarder, more=""):
    text = f'[forwarding]\nplugin = "{forwarder}"\n{more}\n'
    for name, vip in (("v4", VIP), ("v6", VIP6)):
        for protocol, port in (("tcp", 80), ("udp", 53)):
            text += f'[[services]]\nname = "{protocol}-{name}"\nvip = "{vip}"\nport = {port}\n'
            text += f'protocol = "{protocol}"\n'
    return text + f'[[services]]\nname = "tagged"\nvip = "{VIP}"\nport = 81\nvlan = 5\n'


def chosen(client, port, family=None):
    """Return the node that tables of a balancer name for a client."""
    family = family or ip_address(client).version
    mine = sorted(
        (ip, WEIGHTS.get(ip, 1)) for ip in NODES if family in (46, ip_address(ip).version)
    )
    table = build_table(mine, SIZE, 0)
    return mine[table[flow_slot(ip_address(client), port, 0, SIZE)]][0]


def v4(port=1000, **more):
    return IP(**({"src": CLIENT, "dst": VIP} | more))


def v6(**more):
    return IPv6(**({"src": CLIENT6, "dst": VIP6} | more))


@attrs.frozen
class Row:
    """A packet, and what must become of it; `sport` is the client's port of what is forwarded."""

    name: str
    packet: bytes = attrs.field(converter=bytes)
    reason: str
    service: str | None = None
    sport: int | None = None
    client: str = CLIENT

    @property
    def sent(self):
        return self.sport is not None

    @property
    def verdict(self):
        if self.sent:
            return "XDP_REDIRECT"
        return "XDP_PASS" if self.reason.startswith("pass_") else "XDP_DROP"


def rows():
    """Packets that every forwarder treats alike."""
    tcp = TCP(sport=1000, dport=80, flags="S")
    udp = UDP(sport=2000, dport=53) / b"query"
    parts = fragment(v4(id=7) / UDP(sport=3000, dport=53) / Raw(b"x" * 2000), 1000)
    parts6 = [
        v6()
        / IPv6ExtHdrFragment(id=9, m=1, nh=17)
        / UDP(sport=3001, dport=53, len=1608)
        / Raw(b"y" * 800),
        v6() / IPv6ExtHdrFragment(id=9, offset=101, nh=17) / Raw(b"z" * 800),
    ]
    return [
        Row("tcp", E / v4(tos=0x28) / tcp, "forwarded", "tcp-v4", 1000),
        Row("udp", E / v4() / udp, "forwarded", "udp-v4", 2000),
        Row("tcp6", E / v6(tc=0xB8) / tcp, "forwarded", "tcp-v6", 1000, CLIENT6),
        Row("udp6", E / v6() / udp, "forwarded", "udp-v6", 2000, CLIENT6),
        Row(
            "big",
            E / v4() / UDP(sport=2001, dport=53) / Raw(b"b" * 1400),
            "forwarded",
            "udp-v4",
            2001,
        ),
        Row(
            "options",
            E / v4(options=[IPOption_NOP()] * 4) / TCP(sport=1002, dport=80, flags="S"),
            "forwarded",
            "tcp-v4",
            1002,
        ),
        Row(
            "extension",
            E / v6() / IPv6ExtHdrDestOpt() / TCP(sport=1003, dport=80, flags="S"),
            "forwarded",
            "tcp-v6",
            1003,
            CLIENT6,
        ),
        Row("first", E / parts[0], "forwarded", "udp-v4", 3000),
        Row("second", E / parts[1], "fragment_followed", "udp-v4", 3000),
        Row("third", E / parts[2], "fragment_followed", "udp-v4", 3000),
        Row("first6", E / parts6[0], "forwarded", "udp-v6", 3001, CLIENT6),
        Row("second6", E / parts6[1], "fragment_followed", "udp-v6", 3001, CLIENT6),
        Row(
            "unknown fragment",
            E / v4(id=99, frag=10, proto=17) / Raw(bytes(64)),
            "fragment_unknown",
            "udp-v4",
        ),
        Row(
            "foreign fragment",
            E / v4(id=99, frag=10, dst="203.0.113.99", proto=17) / Raw(bytes(64)),
            "pass_foreign",
        ),
        Row(
            "tagged",
            E / Dot1Q(vlan=5) / v4() / TCP(sport=1004, dport=81, flags="S"),
            "forwarded",
            "tagged",
            1004,
        ),
        Row(
            "other tag",
            E / Dot1Q(vlan=6) / v4() / TCP(sport=1004, dport=81, flags="S"),
            "pass_foreign",
        ),
        Row(
            "two tags",
            E / Dot1Q(vlan=5) / Dot1Q(vlan=5) / v4() / TCP(sport=1, dport=81),
            "pass_foreign",
        ),
        Row("other port", E / v4() / TCP(sport=1000, dport=8080, flags="S"), "pass_foreign"),
        Row("other protocol", E / v4() / UDP(sport=1000, dport=80), "pass_foreign"),
        Row("no vip", E / v4(dst="203.0.113.99") / tcp, "pass_foreign"),
        Row("no vip6", E / v6(dst="2001:db8:1::99") / tcp, "pass_foreign"),
        Row("ping", E / v4() / ICMP(), "pass_foreign"),
        Row("ping6", E / v6() / ICMPv6EchoRequest(), "pass_foreign"),
        Row("arp", E / ARP(psrc=CLIENT, pdst=VIP), "pass_unparsable"),
        Row("neighbour", E / v6(dst="ff02::1:ff00:10") / ICMPv6ND_NS(tgt=VIP6), "pass_foreign"),
        Row(
            "unknown", Ether(dst=E.dst, src=E.src, type=0x88CC) / Raw(bytes(46)), "pass_unparsable"
        ),
        Row("cut", bytes(E / v4() / tcp)[:40], "pass_unparsable"),
        Row("header only", bytes(E / v4() / tcp)[:14], "pass_unparsable"),
    ]


ROWS = rows()


def check_rows(found, family=None):
    """Compare everything but the bytes that leave."""
    for number, (row, one) in enumerate(zip(ROWS, found, strict=True)):
        node = chosen(row.client, row.sport, family) if row.sent else None
        expected = {
            "index": number,
            "number": number + 1,
            "verdict": row.verdict,
            "reason": row.reason,
            "service": row.service,
            "node": node,
            "in_interface": "eth1",
            "out_interface": "eth0" if row.sent else None,
            "problem": None,
        }

        assert expected == {key: one[key] for key in expected}, row.name
        assert len(row.packet) == one["packet"]["length"], row.name
        assert row.sent == (one["out"] is not None), row.name
        if row.sent:
            check_way(row, one, node)


def check_way(row, one, node):
    hop = {"interface": "eth0", "dst_mac": NODES[node], "src_mac": PRIVATE_MAC, "mtu": 1500}
    client = ip_address(row.client)

    assert hop == one["next_hop"], row.name
    if row.reason == "forwarded":
        assert flow_slot(client, row.sport, 0, SIZE) == one["slot"], row.name
        assert flow_hash(client, row.sport, 0) == one["hash"], row.name


def sent(found):
    """Yield the rows that are forwarded, the node and the frame that leaves for it."""
    for row, one in zip(ROWS, found, strict=True):
        if row.sent:
            yield row, one, Ether(bytes.fromhex(one["out"]["data"]))


def to(node):
    return Ether(dst=NODES[node], src=PRIVATE_MAC)


def inside(row):
    """Return the packet of a row without Ethernet header and tag."""
    packet = Ether(row.packet).payload
    return packet.payload if isinstance(packet, Dot1Q) else packet


def hopped(packet):
    """Return a packet that has made one hop more."""
    packet = packet.copy()
    if isinstance(packet, IP):
        packet.ttl -= 1
        del packet.chksum
    else:
        packet.hlim -= 1
    return packet


def test_l2_bridge_changes_nothing_but_the_link_layer(tracing):
    tracing.configure(services("l2_bridge"))
    found = tracing.trace([row.packet for row in ROWS], *OPTIONS)

    check_rows(found)
    for row, one, frame in sent(found):
        assert bytes(to(one["node"]) / inside(row)) == bytes(frame), row.name


def test_l3_route_without_tunnel_takes_one_hop(tracing):
    tracing.configure(services("l3_route", '[plugins.l3_route]\nencap = "none"'))
    found = tracing.trace([row.packet for row in ROWS], *OPTIONS)

    check_rows(found)
    for row, one, frame in sent(found):
        assert bytes(to(one["node"]) / hopped(inside(row))) == bytes(frame), row.name


def outer(packet, node, protocols, **more):
    """Return the header that a tunnel to a node puts before a packet."""
    traffic = packet.tos if isinstance(packet, IP) else packet.tc
    number = protocols[packet.version]
    if ip_address(node).version == 4:
        more = {"flags": "DF", "id": 0, "ttl": 64, "tos": traffic, "proto": number} | more
        return IP(src="10.0.0.1", dst=node, **more)
    return IPv6(src="fd00::1", dst=node, hlim=64, tc=traffic, nh=number, **more)


def test_l3_route_puts_packets_into_others(tracing):
    tracing.configure(services("l3_route"))
    found = tracing.trace([row.packet for row in ROWS], *OPTIONS)

    check_rows(found, family=46)
    for row, one, frame in sent(found):
        packet = hopped(inside(row))
        labels = {"fl": frame.fl} if IPv6 in frame and one["node"].startswith("fd") else {}
        header = outer(packet, one["node"], {4: 4, 6: 41}, **labels)
        assert bytes(to(one["node"]) / header / Raw(bytes(packet))) == bytes(frame), row.name


def test_l3_route_puts_packets_into_udp(tracing):
    tracing.configure(services("l3_route", '[plugins.l3_route]\nencap = "gue"\ngue_port = 6100'))
    found = tracing.trace([row.packet for row in ROWS], *OPTIONS)

    check_rows(found, family=46)
    for row, one, frame in sent(found):
        packet, six = hopped(inside(row)), one["node"].startswith("fd")
        header = outer(packet, one["node"], {4: 17, 6: 17}, **({"fl": frame.fl} if six else {}))
        header /= UDP(sport=frame[UDP].sport, dport=6100, chksum=0)
        assert bytes(to(one["node"]) / header / Raw(bytes(packet))) == bytes(frame), row.name
        names = [layer["layer"] for layer in one["out"]["layers"]]
        assert ["eth", "ip6" if six else "ip", "udp"] == names[:3], row.name
        assert names[3] == ("ip" if isinstance(packet, IP) else "ip6"), row.name


@pytest.mark.parametrize(
    ("forwarder", "more", "room"),
    [
        ("l2_bridge", "", 1500),
        ("l4_nat", "", 1500),
        ("l3_route", '[plugins.l3_route]\nencap = "none"', 1500),
        ("l3_route", "", 1480),
        ("l3_route", '[plugins.l3_route]\nencap = "gue"', 1472),
    ],
)
def test_what_the_way_out_cannot_take_is_answered(tracing, forwarder, more, room):
    """However long it is: XDP would drop a longer frame unseen."""
    tracing.configure(services(forwarder, more))
    lengths = [room, room + 1, 1504, 9000, 60_000]
    packets = [E / v4() / UDP(sport=2000, dport=53) / Raw(bytes(length - 28)) for length in lengths]

    found = tracing.trace(packets, OPTIONS[0])

    assert ["forwarded"] + ["icmp_sent"] * 4 == [one["reason"] for one in found]
    for one in found[1:]:
        answer = Ether(bytes.fromhex(one["out"]["data"]))[ICMP]
        assert (3, 4, room) == (answer.type, answer.code, answer.nexthopmtu)


def test_l4_nat_speaks_for_the_client(tracing):
    tracing.configure(services("l4_nat"))
    found = tracing.trace([row.packet for row in ROWS], *OPTIONS)

    check_rows(found)
    for row, one, frame in sent(found):
        packet, left = inside(row), frame.payload
        six = isinstance(packet, IPv6)
        assert ("fd00::1" if six else "10.0.0.1", one["node"]) == (left.src, left.dst), row.name
        assert (packet.hlim if six else packet.ttl) - 1 == (left.hlim if six else left.ttl)
        assert (packet.tc if six else packet.tos) == (left.tc if six else left.tos), row.name
        assert [] == checksum_problems(bytes(frame)), row.name
        made = [step["port"] for step in one["steps"] if step["step"] == "flow_made"]
        if row.reason == "forwarded":
            ports = [x["sport"] for x in one["out"]["layers"] if x["layer"] in ("tcp", "udp")]
            assert made == ports, row.name
