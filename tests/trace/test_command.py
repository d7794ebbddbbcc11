# SPDX-License-Identifier: Apache-2.0
"""`galelb trace` as people and programs use it, without any network."""

import json
import struct
from ipaddress import ip_address

import pytest
from scapy.all import ICMP, IP, TCP, UDP, Ether, IPv6, Raw

from galelb.capture.pcapng import (
    Direction,
    Frame,
    Interface,
    frame_block,
    interface_block,
    section_block,
)
from galelb.flowhash import flow_hash, flow_slot

pytestmark = pytest.mark.bpf

VIP, CLIENT, NODE = "203.0.113.10", "198.51.100.7", "10.0.0.11"
MAC = "02:aa:00:00:00:11"
E = Ether(dst="02:00:00:00:00:aa", src="02:00:00:00:00:bb")
ONE = [f"--node={NODE},mac={MAC}"]
SYN = E / IP(src=CLIENT, dst=VIP) / TCP(sport=1000, dport=80, flags="S")
WEB = f'[[services]]\nname = "web"\nvip = "{VIP}"\nport = 80\n'
DNS = f'[[services]]\nname = "dns"\nvip = "{VIP}"\nport = 53\nprotocol = "udp"\n'
L2 = '[forwarding]\nplugin = "l2_bridge"\n'
L3 = '[forwarding]\nplugin = "l3_route"\n'


def frame(one):
    return Ether(bytes.fromhex(one["out"]["data"]))


def what(one):
    return one["verdict"], one["reason"], one["service"], one["node"], one["out_interface"]


SENT = ("XDP_REDIRECT", "forwarded", "web", NODE, "eth0")


def test_every_step_is_told_to_people(tracing):
    tracing.configure(WEB)
    tracing.run([SYN, E / IP(src=CLIENT, dst=VIP) / TCP(dport=81)], *ONE)

    assert 0 == tracing.code
    number = flow_hash(ip_address(CLIENT), 1000, 0)
    slot = flow_slot(ip_address(CLIENT), 1000, 0, 65537)
    head, *blocks = tracing.out.split("\n\n")
    assert f"# --node {NODE},mac={MAC},weight=1" == head.splitlines()[-1]
    first, second = (block.splitlines() for block in blocks[:2])
    assert first[0].startswith("#1  ")
    assert first[0].endswith(".250000  198.51.100.7:1000 > 203.0.113.10:80 tcp [S], 54 bytes")
    assert [
        "    arrived    on eth1 (public)",
        "    parsed     IPv4 TCP 198.51.100.7:1000 > 203.0.113.10:80, ttl 64",
        "    service    web, 203.0.113.10:80/tcp, by l4_nat",
        "    tail call  l4_nat_forward_slow",
        "    tail call  l4_nat_new",
        f"    chosen     hash {number:#010x}, slot {slot} of 65537: node 10.0.0.11",
        "    flow       new, the node sees port 1024",
        f"    next hop   out of eth0, 02:00:00:00:00:02 > {MAC}, mtu 1500",
        "    changed    ip: src 198.51.100.7 -> 10.0.0.1, dst 203.0.113.10 -> 10.0.0.11,"
        " ttl 64 -> 63",
        "    changed    tcp: sport 1000 -> 1024",
        "    verdict    XDP_REDIRECT out of eth0: forwarded - to a node 10.0.0.11",
    ] == first[1:]
    assert [
        "    arrived    on eth1 (public)",
        "    parsed     IPv4 TCP 198.51.100.7:20 > 203.0.113.10:81, ttl 64",
        "    service    none: that VIP has 203.0.113.10:80/tcp",
        "    verdict    XDP_PASS: pass_foreign - not for a service and not claimed",
    ] == second[1:]
    assert "2 packets: 1 forwarded, 1 pass_foreign\n" == blocks[2]


def test_what_was_made_up_is_not_among_the_objects(tracing):
    tracing.configure(WEB)
    tracing.run([SYN], *ONE, "--json")

    assert ["index"] == [next(iter(json.loads(line))) for line in tracing.out.splitlines()]
    assert "# --private-address 10.0.0.1, fd00::1: what nodes see as the balancer" in tracing.err


def test_a_trace_can_be_repeated(tracing):
    """Also the parts that a balancer draws: sources, and identifications of fragments."""
    tracing.configure(DNS)
    first = E / IP(src=CLIENT, dst=VIP, flags="MF", id=1) / UDP(dport=53) / Raw(bytes(64))
    once = tracing.trace([first, first], *ONE)
    again = tracing.trace([first, first], *ONE)

    assert once == again
    assert frame(once[0])[IP].id != frame(once[1])[IP].id


def test_every_packet_gets_the_answer_that_it_asks_for(tracing):
    """A balancer sends a hundred ICMP messages per second, a trace as many as are due."""
    tracing.configure(WEB)
    dying = E / IP(src=CLIENT, dst=VIP, ttl=1) / TCP(sport=1000, dport=80, flags="S")
    found = tracing.trace([dying] * 300, *ONE)

    assert {("XDP_TX", "icmp_sent", "web", None, "eth1")} == {what(one) for one in found}
    answer = frame(found[0])
    assert (E.src, E.dst, VIP, CLIENT) == (
        answer.dst,
        answer.src,
        answer[IP].src,
        answer[IP].dst,
    )
    assert (11, 0) == (answer[ICMP].type, answer[ICMP].code)
    assert {"step": "reply", "kind": "time_exceeded", "mtu": None} in found[0]["steps"]


def test_what_does_not_fit_into_a_tunnel_is_answered(tracing):
    tracing.configure(L3 + WEB)
    large = E / IP(src=CLIENT, dst=VIP) / TCP(sport=1, dport=80) / Raw(bytes(1441))
    fits = E / IP(src=CLIENT, dst=VIP) / TCP(sport=1, dport=80) / Raw(bytes(1440))
    found = tracing.trace([large, fits], *ONE)

    assert ["icmp_sent", "forwarded"] == [one["reason"] for one in found]
    answer = frame(found[0])
    assert (3, 4, 1480) == (answer[ICMP].type, answer[ICMP].code, answer[ICMP].nexthopmtu)


def test_errors_about_flows_go_to_their_node(tracing):
    tracing.configure(WEB)
    quoted = IP(src=VIP, dst=CLIENT) / TCP(sport=80, dport=1000)
    error = E / IP(src="192.0.2.99", dst=VIP) / ICMP(type=3, code=4, nexthopmtu=1400) / quoted
    unknown = error.copy()
    unknown[TCP].dport = 1001
    found = tracing.trace([SYN, error, unknown], *ONE)

    assert [
        SENT,
        ("XDP_REDIRECT", "icmp_translated", "web", NODE, "eth0"),
        ("XDP_DROP", "icmp_unknown", "web", None, None),
    ] == [what(one) for one in found]
    changes = {(c["layer"], c["field"]): c["after"] for c in found[1]["out"]["changes"]}
    assert {"10.0.0.11": "10.0.0.1"} == {changes["quoted ip", "src"]: changes["quoted ip", "dst"]}
    assert {"step": "quoted", "service": "web"} in found[1]["steps"]


def test_answers_of_nodes_come_in_by_their_side_and_leave_by_the_gateway(tracing):
    tracing.configure(WEB)
    answer = E / IP(src=NODE, dst="10.0.0.1") / TCP(sport=80, dport=1024, flags="SA")
    found = tracing.trace([SYN, answer], *ONE)

    assert ("XDP_REDIRECT", "returned", "web", None, "eth1") == what(found[1])
    assert "eth0" == found[1]["in_interface"]
    left = frame(found[1])
    assert ("02:00:00:00:00:fe", "02:00:00:00:00:01") == (left.dst, left.src)
    assert (VIP, CLIENT, 80, 1000) == (left[IP].src, left[IP].dst, left.sport, left.dport)


def test_no_node_is_a_reason(tracing):
    tracing.configure(L2 + WEB)
    drop = ("XDP_DROP", "no_node", "web", None, None)

    assert [drop] == [what(one) for one in tracing.trace([SYN])]
    assert [drop] == [what(one) for one in tracing.trace([SYN], f"--node={NODE},weight=0")]


def test_nodes_that_a_forwarder_refuses_are_told(tracing):
    tracing.configure(WEB + "[plugins.l4_nat]\nmax_slices = 2\n")
    tracing.run([SYN], *(f"--node=10.0.0.{n}" for n in range(11, 61)))
    notes = [line for line in tracing.out.splitlines() if line.startswith("# ")]

    assert "# and 40 more nodes" in notes
    assert "# refused by l4_nat: no port slice is left for 10.0.0." in "\n".join(notes)
    assert "# and 8 more refusals" == notes[-1]
    assert "" == tracing.err


def test_nodes_of_the_configuration_count_and_options_overrule_them(tracing):
    tracing.configure(L2 + WEB + f'[[nodes]]\nip = "{NODE}"\nmac = "02:aa:00:00:00:22"\n')
    (found,) = tracing.trace([SYN])
    (other,) = tracing.trace([SYN], *ONE)

    assert "02:aa:00:00:00:22" == frame(found).dst
    assert MAC == frame(other).dst


def test_one_interface_bounces(tracing):
    tracing.configure(L2 + WEB, public="eth0")
    (found,) = tracing.trace([SYN], *ONE, "--vip-mac=02:00:00:00:00:77")

    assert ("XDP_TX", "forwarded", "web", NODE, "eth0") == what(found)
    assert ("02:00:00:00:00:77", MAC) == (frame(found).src, frame(found).dst)


def test_any_name_of_an_interface_will_do(tracing):
    tracing.configure(L2 + WEB, public="lo", private="gale1")
    (found,) = tracing.trace([SYN], *ONE)

    assert (*SENT[:4], "gale1") == what(found)


def test_the_default_service_is_at_the_public_address(tracing):
    tracing.configure("")
    packet = E / IP(src=CLIENT, dst="192.0.2.7") / TCP(sport=1000, dport=8080, flags="S")
    (found,) = tracing.trace([packet], *ONE, "--public-address=192.0.2.7")

    assert ("XDP_REDIRECT", "forwarded", "default", NODE, "eth0") == what(found)


def test_the_interface_is_that_of_the_mac_address_or_the_option(tracing):
    tracing.configure(L2 + WEB)
    own = Ether(dst="02:00:00:00:00:02", src=E.src) / SYN.payload

    assert ["eth0"] == [one["in_interface"] for one in tracing.trace([own], *ONE)]
    assert ["eth1"] == [one["in_interface"] for one in tracing.trace([own], *ONE, "--ingress=eth1")]


def test_services_of_several_forwarders_and_too_many_to_compare(tracing):
    text = "".join(
        f'[[services]]\nname = "s{n}"\nvip = "{VIP}"\nport = {1000 + n}\n'
        f'forwarder = "{("l2_bridge", "l3_route", "l4_nat")[n % 3]}"\n'
        for n in range(60)
    )
    tracing.configure(text)
    packets = [E / IP(src=CLIENT, dst=VIP) / TCP(dport=1000 + n, flags="S") for n in range(61)]
    found = tracing.trace(packets, *ONE)

    assert [f"s{n}" for n in range(60)] + [None] == [one["service"] for one in found]
    assert [VIP, NODE, NODE] == [frame(one)[IP].dst for one in found[:3]]
    assert {"forwarded"} == {one["reason"] for one in found[:60]}


def test_a_file_of_galelb_capture_is_traced_as_packets_came(tracing):
    """It has every packet twice, as it came and as it left, with the interfaces."""
    tracing.configure(WEB)
    ends = Interface("eth1", "in", 256), Interface("eth0", "out", 256)
    content = section_block("galelb 1.0") + b"".join(map(interface_block, ends))
    for number, direction in enumerate((Direction.INBOUND, Direction.OUTBOUND)):
        content += frame_block(
            Frame(
                interface=number,
                time_ns=0,
                data=bytes(SYN),
                length=len(SYN),
                direction=direction,
                packet_id=1,
            )
        )
    content += frame_block(
        Frame(
            interface=1,
            time_ns=0,
            data=bytes(SYN),
            length=len(SYN),
            direction=Direction.INBOUND,
            packet_id=2,
        )
    )
    tracing.run(content, *ONE, "--json")
    found = [json.loads(line) for line in tracing.out.splitlines()]
    tracing.run(content, *ONE)

    assert [(0, "eth1"), (2, "eth0")] == [(one["index"], one["in_interface"]) for one in found]
    assert "3 packets: 2 forwarded, 1 passed over (left a balancer)" in tracing.out


def test_people_are_told_what_an_error_quotes(tracing):
    tracing.configure(WEB)
    quoted = IP(src=VIP, dst=CLIENT) / TCP(sport=80, dport=1000)
    tracing.run([E / IP(src="192.0.2.9", dst=VIP) / ICMP(type=3, code=3) / quoted], *ONE)

    said = "203.0.113.10:80 > 198.51.100.7:1000, a packet of the service web"
    assert f"    quoted     {said}" in tracing.out.splitlines()


def record(data, length=None):
    return struct.pack("<IIII", 1, 0, len(data), len(data) if length is None else length) + data


def pcap(*records, link=1):
    return struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link) + b"".join(records)


def test_what_cannot_be_run_is_said_and_the_rest_goes_on(tracing):
    tracing.configure(L2 + WEB)
    tracing.run(pcap(record(b"abc"), record(bytes(SYN))), *ONE, "--json")
    first, second = map(json.loads, tracing.out.splitlines())

    assert "3 bytes are less than an Ethernet header" == first["problem"]
    assert (None, None, None) == (first["verdict"], first["reason"], first["out"])
    assert SENT == what(second)
    assert 0 == tracing.code


def test_packets_that_were_cut_short_go_where_the_whole_ones_went(tracing):
    tracing.configure(L3 + WEB)
    whole = bytes(E / IP(src=CLIENT, dst=VIP) / TCP(sport=1, dport=80) / Raw(b"x" * 1000))
    tracing.run(pcap(record(whole[:60], len(whole))), *ONE, "--json")
    (found,) = map(json.loads, tracing.out.splitlines())

    assert SENT == what(found)
    assert ["994 of its bytes were not captured: they count as zeros"] == found["notes"]
    assert 60 + 20 == found["out"]["length"]
    assert len(whole) - 14 + 20 == frame(found)[IP].len


def test_packets_without_ethernet_header_are_given_one(tracing):
    tracing.configure(L2 + WEB)
    tracing.run(pcap(record(bytes(SYN.payload)), link=101), *ONE, "--json")
    (found,) = map(json.loads, tracing.out.splitlines())

    assert SENT == what(found)
    assert ["it had no Ethernet header: one was made up"] == found["notes"]


def test_a_file_that_was_cut_off_is_traced_up_to_there(tracing):
    tracing.configure(L2 + WEB)
    tracing.run(pcap(record(bytes(SYN)), record(bytes(SYN)))[:-1], *ONE, "--json")

    assert [SENT] == [what(json.loads(line)) for line in tracing.out.splitlines()]
    assert tracing.err.endswith("in.pcap: is cut off in packet 2\n")
    assert 2 == tracing.code


def test_a_file_without_packets_is_no_mistake(tracing):
    tracing.configure(L2 + WEB)
    tracing.run(pcap(), *ONE)

    assert (0, "0 packets") == (tracing.code, tracing.out.splitlines()[-1])


BAD_FILES = {
    b"": "is empty, not even the head of a capture file",
    b"GIF89a, or so it says": "is no pcap or pcapng file",
    pcap(record(bytes(60)), link=105): "link type 105 is not supported: Ethernet, raw IP, Linux"
    " cooked and loopback are",
}
BAD_OPTIONS = {
    "--node=nothing": "--node nothing: 'nothing' is no IP address",
    "--node=10.0.0.1,mac=1": "'1' is no MAC address",
    "--ingress=eth9": "--ingress eth9: not configured; there are eth0, eth1",
    "--vip-mac=ff:ff:ff:ff:ff:ff": "no address of one host",
    "--private-address=10.0.0": "--private-address: '10.0.0' is no IP address",
    "--mtu=100": "100 is not in the range",
    "--live": "no balancer is or was running as default",
}


@pytest.mark.parametrize("content", BAD_FILES)
def test_a_bad_file_is_named(tracing, content):
    tracing.configure(L2 + WEB)
    tracing.run(content, *ONE, "--json")

    assert f"galelb: {tracing.folder}/in.pcap: {BAD_FILES[content]}\n" == tracing.err
    assert (2, "") == (tracing.code, tracing.out)


@pytest.mark.parametrize("option", BAD_OPTIONS)
def test_a_bad_option_is_named(tracing, option):
    tracing.configure(f'{L2}[instance]\nrun_dir = "{tracing.folder}"\n{WEB}')
    tracing.run([SYN], option)

    assert BAD_OPTIONS[option] in tracing.err
    assert (1 if option == "--live" else 2) == tracing.code


def test_live_and_made_up_do_not_go_together(tracing):
    tracing.configure(L2 + WEB)
    tracing.run([SYN], "--live", "--mtu=1500")

    assert 2 == tracing.code
    assert "--live takes nodes and interfaces as they are: drop --mtu" in tracing.err


def test_the_file_that_is_read_is_not_written(tracing):
    tracing.configure(L2 + WEB)
    tracing.run([SYN], "--out", str(tracing.folder / "in.pcap"))

    assert (2, True) == (tracing.code, "--out is the file of --pcap" in tracing.err)


def test_a_bad_configuration_has_all_its_problems_named(tracing):
    tracing.configure(L2 + WEB.replace("port = 80", "port = 0"))
    tracing.run([SYN], *ONE)

    assert 2 == tracing.code
    assert f"{tracing.config}:" in tracing.err


def test_ipv6_clients_of_tunnels_reach_ipv4_nodes(tracing):
    tracing.configure(L3 + WEB.replace(VIP, "2001:db8:1::10"))
    packet = E / IPv6(src="2001:db8::7", dst="2001:db8:1::10") / TCP(sport=1, dport=80)
    (found,) = tracing.trace([packet], *ONE)

    assert SENT == what(found)
    assert ["eth", "ip", "ip6", "tcp"] == [one["layer"] for one in found["out"]["layers"]]
