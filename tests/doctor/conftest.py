# SPDX-License-Identifier: Apache-2.0
"""Facts of machines on which all is well; tests change what they are about."""

import json
from ipaddress import ip_address
from pathlib import Path

import pytest

from galelb.bpf.find_bcc import Bcc
from galelb.config import BalancerConfig
from galelb.config.node import NodeConfig
from galelb.doctor.balancer import BalancerFacts
from galelb.doctor.findings import Level
from galelb.doctor.links import LinkFacts
from galelb.doctor.machine import MachineFacts
from galelb.doctor.node import BalancerSeen, Listener, NodeSide, Probe
from galelb.forwarder import Forwarder, HostView
from galelb.model import Interface, Protocol, Service
from galelb.netlink.xdp_features import XdpFeature
from galelb.node.wishes import Wishes


class Plain(Forwarder):
    name = "plain"
    source = Path("plain.bpf.c")
    supports_tc = True


def _interface(name, *addresses, kind=""):
    return Interface(
        name=name,
        ifindex=2,
        mac="02:00:00:00:00:01",
        mtu=1500,
        addresses=tuple(map(ip_address, addresses)),
        kind=kind,
    )


@pytest.fixture
def interface():
    """Makes an interface of a name and addresses."""
    return _interface


@pytest.fixture
def bad():
    """Returns what is not well of some findings, by name: level, sentence, command."""

    def filtered(findings):
        return {
            one.name: (one.level.value, one.text, one.mend)
            for one in findings
            if one.level is not Level.OK
        }

    return filtered


@pytest.fixture
def machine():
    return MachineFacts(kernel="6.1.0", bcc=Bcc(Path("/lib/bcc"), "0.26.0"), libbpf="1.1")


@pytest.fixture
def links():
    can = XdpFeature.BASIC | XdpFeature.REDIRECT | XdpFeature.NDO_XMIT
    private, public = _interface("eth0", "10.0.0.1"), _interface("eth1", "192.0.2.1")
    return (
        LinkFacts(name="eth0", role="private", interface=private, features=can),
        LinkFacts(name="eth1", role="public", interface=public, features=can),
    )


@pytest.fixture
def web():
    return Service(
        name="web",
        vip=ip_address("192.0.2.1"),
        port=80,
        protocol=Protocol.TCP,
        target_port=80,
        forwarder="plain",
    )


@pytest.fixture
def facts(machine, links, web):
    private, public = (link.interface for link in links)
    return BalancerFacts(
        machine=machine,
        links=links,
        interfaces={"eth0": private, "eth1": public, "lo": _interface("lo", "127.0.0.1")},
        host=HostView(
            private=private,
            public=public,
            ip_local_port_range=(32768, 60999),
            tick_shift=8,
            hz=250,
            flow_seed=1,
        ),
        services=(web,),
        forwarders={"plain": Plain(None)},
    )


@pytest.fixture
def config():
    data = {
        "private_interface": {"net_interface_private": "eth0"},
        "public_interface": {"net_interface_public": "eth1"},
        "forwarding": {"plugin": "plain"},
    }
    return BalancerConfig.model_validate_json(json.dumps(data))


@pytest.fixture
def node_config():
    check = {"name": "http", "type": "tcp", "target": "127.0.0.1:80"}
    data = {"load_balancer": {"addresses": [{"ip": "10.0.0.1"}]}, "checks": [check]}
    return NodeConfig.model_validate_json(json.dumps(data))


@pytest.fixture
def side():
    """A node with the VIP 192.0.2.1 on lo, as its balancer wants it."""
    vip = ip_address("192.0.2.1")
    return NodeSide(
        balancers=(
            BalancerSeen(
                name="10.0.0.1:7070", addresses=("10.0.0.1",), wishes=Wishes(vips=frozenset({vip}))
            ),
        ),
        interfaces={
            "lo": _interface("lo", "127.0.0.1", "192.0.2.1"),
            "eth0": _interface("eth0", "10.0.0.2"),
        },
        checks=(Probe(name="http"),),
        answers=(Probe(name="192.0.2.1:80"),),
        listeners=(Listener(ip_address("0.0.0.0"), 80),),
    )
