# SPDX-License-Identifier: Apache-2.0
"""What keeps a balancer from serving clients."""

from ipaddress import ip_address
from pathlib import Path

import attrs
import pytest

from galelb.config import digest
from galelb.doctor.balancer import DaemonFacts, NodeFacts, check_balancer
from galelb.doctor.findings import Level
from galelb.forwarder import Forwarder
from galelb.model import XdpMode

A = ip_address("10.0.0.11")


class Grumpy(Forwarder):
    """Objects to everything."""

    name = "plain"
    source = Path("plain.bpf.c")
    supports_tc = True

    def check(self, services, host):
        return [f"{host.private.name} is too small"]


class Broken(Grumpy):
    def check(self, services, host):
        raise KeyError("x")


class Growing(Grumpy):
    """Makes packets longer."""

    wraps = True

    def check(self, services, host):
        return []

    def notes(self, services, host):
        return ["1480 bytes fit"] if host.private.mtu < 1520 else []


class Plain(Growing):
    wraps = False


class Returning(Plain):
    """Its answers may be forwarded by the kernel."""

    @property
    def needs_tc_egress(self):
        return True


def running(config, **values):
    status = {
        "pid": 42,
        "ready": True,
        "not_ready_reason": "",
        "config_digest": digest(config),
        "version": "1.0",
        "interfaces": [{"name": "eth0"}, {"name": "eth1"}],
        "reasons": {},
    }
    return DaemonFacts(status=status | values, version="1.0", folder=True)


def test_a_good_balancer_has_nothing_to_mend(config, facts, bad):
    assert {} == bad(check_balancer(config, facts))


def test_every_check_has_a_name_of_its_own(config, facts):
    names = [one.name for one in check_balancer(config, facts)]

    assert sorted(set(names)) == sorted(names)


def test_a_vip_that_no_interface_has(config, facts, web, bad):
    elsewhere = attrs.evolve(web, vip=ip_address("198.51.100.7"))

    found = bad(check_balancer(config, attrs.evolve(facts, services=(elsewhere,))))

    assert ["vip 198.51.100.7"] == list(found)
    level, _, mend = found["vip 198.51.100.7"]
    assert ("warn", "ip address add 198.51.100.7/32 dev eth1") == (level, mend)


def test_a_vip_may_be_left_to_an_announcer(config, facts, web, bad):
    elsewhere = attrs.evolve(web, vip=ip_address("198.51.100.7"))
    announce = config.announce.model_copy(update={"plugin": "garp"})
    config = config.model_copy(update={"announce": announce})

    assert {} == bad(check_balancer(config, attrs.evolve(facts, services=(elsewhere,))))


def test_services_that_cannot_be_made(config, facts, bad):
    facts = attrs.evolve(facts, services=(), services_problem="eth1 has no address")

    assert ("fail", "eth1 has no address", "") == bad(check_balancer(config, facts))["services"]


@pytest.mark.parametrize(
    ("forwarder", "expected"),
    [
        (Grumpy, ("fail", "eth0 is too small", "")),
        (Broken, ("fail", "its check of this machine failed: KeyError: 'x'", "")),
        (Growing, ("warn", "1480 bytes fit", "ip link set dev eth0 mtu 1520")),
    ],
)
def test_what_forwarders_object_to(config, facts, bad, forwarder, expected):
    facts = attrs.evolve(facts, forwarders={"plain": forwarder(None)})

    assert {"forwarder plain": expected} == bad(check_balancer(config, facts))


def test_what_forwarders_note_is_told(config, facts):
    facts = attrs.evolve(facts, forwarders={"plain": Plain(None)})

    told = [one.text for one in check_balancer(config, facts) if one.name == "forwarder plain"]

    assert ["1480 bytes fit"] == told


@pytest.mark.parametrize(("value", "count"), [(0, 0), (1, 1), (2, 0)])
def test_a_strict_rp_filter_matters_where_the_kernel_forwards_answers(
    config, facts, links, bad, value, count
):
    strict = (attrs.evolve(links[0], rp_filter=value), links[1])
    facts = attrs.evolve(facts, links=strict)
    assert {} == bad(check_balancer(config, facts))

    found = bad(check_balancer(config, attrs.evolve(facts, forwarders={"plain": Returning(None)})))

    expected = ["sysctl -w net/ipv4/conf/eth0/rp_filter=2"] * count
    assert expected == [mend for _, _, mend in found.values()]


def test_a_port_that_somebody_else_has(config, facts, bad):
    facts = attrs.evolve(facts, busy={"node_port": "10.0.0.1 port 7070: Address already in use"})

    found = bad(check_balancer(config, facts))

    assert ["node_port 7070"] == list(found)
    assert "`ss -ltnp sport = :7070` tells who has it" in found["node_port 7070"][1]


@pytest.mark.parametrize(("static", "level"), [(True, "fail"), (False, "warn")])
@pytest.mark.parametrize(
    ("facts_of_node", "words"),
    [
        ({"problem": "there is no way to it"}, "no way"),
        ({"interface": "eth0"}, "it does not answer"),
        ({"interface": "eth0", "gateway": ip_address("10.0.0.254")}, "its router 10.0.0.254 does"),
    ],
)
def test_a_node_that_cannot_be_reached(config, facts, bad, static, level, facts_of_node, words):
    node = NodeFacts(address=A, static=static, **facts_of_node)

    found = bad(check_balancer(config, attrs.evolve(facts, nodes=(node,))))

    assert ["node 10.0.0.11"] == list(found)
    assert level == found["node 10.0.0.11"][0]
    assert words in found["node 10.0.0.11"][1]


def test_a_node_that_answers(config, facts):
    node = NodeFacts(address=A, interface="eth0", mac="02:00:00:00:00:0a")

    told = list(check_balancer(config, attrs.evolve(facts, nodes=(node,))))

    assert ["02:00:00:00:00:0a on eth0"] == [o.text for o in told if o.name == "node 10.0.0.11"]


def test_a_balancer_that_runs_has_its_ports_and_interfaces(config, facts, links, bad):
    facts = attrs.evolve(
        facts,
        daemon=running(config),
        busy={"api_port": "in use"},
        links=tuple(attrs.evolve(one, claimed=True) for one in links),
    )

    assert {} == bad(check_balancer(config, facts))


@pytest.mark.parametrize(
    ("values", "name", "words", "mend"),
    [
        ({"ready": False, "not_ready_reason": "no node"}, "instance default", "but: no node", ""),
        ({"config_digest": "0"}, "configuration", "has other", "kill -HUP 42"),
        ({"version": "0.9"}, "version", "0.9 runs, 1.0 is installed", ""),
        (
            {"reasons": {"hairpin": {"packets": 3, "bytes": 180}}},
            "dropped hairpin",
            "3 packets of nodes that are clients",
            "",
        ),
    ],
)
def test_what_is_wrong_with_one_that_runs(config, facts, bad, values, name, words, mend):
    facts = attrs.evolve(facts, daemon=running(config, **values))

    found = bad(check_balancer(config, facts))

    assert [name] == list(found)
    assert ("warn", mend) == (found[name][0], found[name][2])
    assert words in found[name][1]


def test_programs_of_one_that_died(config, facts, links, bad):
    left = (links[0], attrs.evolve(links[1], tc=True))
    facts = attrs.evolve(facts, links=left, daemon=DaemonFacts(folder=True, directory="/run/x"))

    level, text, mend = bad(check_balancer(config, facts))["instance default"]

    assert "warn" == level
    assert "its programs forward on eth1" in text
    assert f"galelb detach --config {config.path}" == mend
    assert XdpMode.TC is left[1].mode


def test_one_that_does_not_answer(config, facts, bad):
    facts = attrs.evolve(facts, daemon=DaemonFacts(problem="no answer within 25 s"))

    found = bad(check_balancer(config, facts))

    assert {"instance default": ("warn", "no answer within 25 s", "")} == found


def test_without_its_interfaces_the_rest_is_checked_all_the_same(config, facts, links):
    gone = (attrs.evolve(links[0], interface=None), links[1])
    found = list(check_balancer(config, attrs.evolve(facts, links=gone, host=None)))

    failed = [one.name for one in found if one.level is Level.FAIL]

    assert ["interface eth0"] == failed
    assert "node_port 7070" in [one.name for one in found]


def test_a_balancer_in_another_network_namespace_is_not_judged_by_this_one(config, facts, bad):
    here = attrs.evolve(facts, host=None, interfaces={}, links=())
    there = attrs.evolve(here, daemon=attrs.evolve(running(config), elsewhere=True))

    found = bad(check_balancer(config, there))

    command = f"nsenter --net=/proc/42/ns/net galelb doctor --config {config.path}"
    assert ["namespace"] == list(found)
    assert ("fail", command) == found["namespace"][::2]
