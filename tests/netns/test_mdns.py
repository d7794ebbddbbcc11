# SPDX-License-Identifier: Apache-2.0
"""A node asks its networks for a .local name, and a machine there answers."""

import socket
import struct

import pytest
import trio
from scapy.layers.dns import DNS, DNSRR

from galelb.node.mdns import ask

pytestmark = pytest.mark.netns

GROUPS = {socket.AF_INET: "224.0.0.251", socket.AF_INET6: "ff02::fb"}
ANSWER = [("A", "10.77.0.1"), ("AAAA", "fd77::1")]


def responder(family, device):
    """Return what answers for lb-0.local as its machine would; it is ready when it returns."""
    sock = trio.socket.socket(family, socket.SOCK_DGRAM)
    index = socket.if_nametoindex(device)
    if family == socket.AF_INET:
        member = socket.inet_aton(GROUPS[family]) + struct.pack("=4si", b"", index)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    else:
        member = socket.inet_pton(family, GROUPS[family]) + struct.pack("=I", index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)

    async def run(name):
        with sock:
            await sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 5353))
            while True:
                data, sender = await sock.recvfrom(9000)
                if DNS(data).qd[0].qname.lower() == name:
                    records = [DNSRR(rrname=name, type=t, ttl=120, rdata=a) for t, a in ANSWER]
                    await sock.sendto(bytes(DNS(qr=1, aa=1, qd=[], an=records)), sender)

    return run


async def asked(node, answering, name=b"lb-0.local."):
    """Ask in the node's namespace while the other namespace's responder runs."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answering, name)
        found = await trio.to_thread.run_sync(node.trio, ask, "LB-0.local")
        nursery.cancel_scope.cancel()
    return {str(address) for address in found}


@pytest.mark.parametrize("family", GROUPS, ids=["ipv4", "ipv6"])
def test_a_machine_on_the_network_answers(pair, family):
    lb, node = pair

    async def scene():
        return await asked(node, responder(family, "lb0"))

    assert {"10.77.0.1", "fd77::1"} == lb.trio(scene)


def test_every_network_is_asked_not_that_of_the_default_route_alone(pair, wires):
    lb, node = pair
    elsewhere = wires.namespace("gw")
    wires.join(node, "up0", elsewhere, "gw0")
    node.ip("addr", "add", "10.78.0.2/24", "dev", "up0")
    node.ip("route", "add", "default", "via", "10.78.0.1")

    async def scene():
        return await asked(node, responder(socket.AF_INET, "lb0"))

    assert {"10.77.0.1", "fd77::1"} == lb.trio(scene)


def test_a_name_of_nobody_is_an_error(pair):
    lb, node = pair

    async def scene():
        return await asked(node, responder(socket.AF_INET, "lb0"), b"lb-7.local.")

    with pytest.raises(BaseExceptionGroup) as caught:
        lb.trio(scene)
    assert caught.group_contains(OSError, match="answers to LB-0.local")
