# SPDX-License-Identifier: Apache-2.0
"""What a third-party forwarder gets from the pipeline, alone and beside another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path

import pytest

from galelb.abi import Reason
from galelb.bpf import matching
from galelb.forwarder import BpfMap, Forwarder, ForwardingView, MapContent
from galelb.model import Protocol, Service
from galelb.testing.kernel import Sandbox
from galelb.testing.packets import frame, icmp_error
from galelb.testing.runner import PacketRunner, Verdict
from galelb.testing.world import GATEWAY_MAC, PRIVATE_MAC, PUBLIC, PUBLIC_MAC, build_world

pytestmark = pytest.mark.bpf

SOURCE = """\
static __always_inline int
bridge_forward(GALE_CTX *ctx, struct gale_packet *p, struct gale_target *t, struct gale_way *way)
{
	gale_keep(p, way);
	way->hop = gale_node_hop(t->node);
	return way->hop ? GALE_SEND : gale_refuse(way, GALE_REASON_NO_NEIGHBOUR);
}
"""
SELECT = """\
static __always_inline int
bridge_select(struct gale_packet *p, struct gale_target *t, u32 *addr, u16 port)
{
	return gale_target_select(p, t, addr, 0);
}
"""
VIPS = {4: "198.51.100.1", 6: "2001:db8:1::1"}
CLIENTS = {4: "203.0.113.9", 6: "2001:db8:9::9"}


class Bridge(Forwarder):
    """A stateless forwarder that rewrites MAC addresses only."""

    name = "bridge"

    def plan(self, view: ForwardingView, maps: Mapping[str, BpfMap]) -> MapContent:
        del view, maps
        return {}


def services(count: int) -> list[Service]:
    return [
        Service(
            name=f"s{version}-{number}",
            vip=ip_address(VIPS[version]),
            port=1000 + number,
            protocol=Protocol.UDP,
            target_port=1000 + number,
            forwarder="bridge",
        )
        for version in (4, 6)
        for number in range(count)
    ]


@pytest.fixture(scope="module", params=[32, 1], ids=["generated compares", "hash map"])
def runner(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[PacketRunner]:
    source: Path = tmp_path_factory.mktemp("bridge") / "bridge.bpf.c"
    source.write_text(SOURCE)
    kind = type("SourcedBridge", (Bridge,), {"source": source})
    with Sandbox() as sandbox, pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "MAX_COMPARES", request.param)
        with PacketRunner(sandbox, build_world(sandbox), services(2), kind({})) as one:
            keys = matching.service_keys(one.services)
            if keys:
                one.maps["gale_service_keys"].update(keys)
            yield one


@pytest.mark.parametrize("version", [4, 6])
def test_a_stateless_forwarder_is_handed_the_node(runner: PacketRunner, version: int) -> None:
    given = frame(
        CLIENTS[version], VIPS[version], 4000, 1000,
        protocol="udp", src_mac=GATEWAY_MAC, dst_mac=PUBLIC_MAC,
    )  # fmt: skip

    outcome = runner.run(given, PUBLIC)

    node = runner.world.nodes[outcome.node - 1]
    macs = bytes.fromhex((node.mac + PRIVATE_MAC).replace(":", ""))
    assert (Verdict.REDIRECT, Reason.FORWARDED) == (outcome.verdict, outcome.reason)
    assert version == node.address.version
    assert macs + given[12:] == outcome.data


@pytest.mark.parametrize("version", [4, 6])
def test_an_icmp_error_goes_to_the_node_of_its_flow(runner: PacketRunner, version: int) -> None:
    client, vip = CLIENTS[version], VIPS[version]
    request = frame(client, vip, 4001, 1000, protocol="udp")
    answer = frame(vip, client, 1000, 4001, protocol="udp")
    kind = 3 if version == 4 else 1
    error = icmp_error(client, vip, answer, kind=kind)

    there, outcome = runner.run(request, PUBLIC), runner.run(error, PUBLIC)

    assert Reason.ICMP_TRANSLATED == outcome.reason
    assert there.node == outcome.node
    assert error[12:] == outcome.data[12:]


@pytest.mark.parametrize("version", [4, 6])
def test_other_ports_of_a_vip_pass(runner: PacketRunner, version: int) -> None:
    given = frame(CLIENTS[version], VIPS[version], 4000, 99, protocol="udp")

    outcome = runner.run(given, PUBLIC)

    assert (Verdict.PASS, given) == (outcome.verdict, outcome.data)


@pytest.mark.parametrize("version", [4, 6])
def test_a_forwarder_may_select_the_node_by_the_client_alone(tmp_path, version: int) -> None:
    source = tmp_path / "bridge.bpf.c"
    source.write_text(SELECT + SOURCE)
    kind = type("SelectingBridge", (Bridge,), {"source": source, "selects_node": True})
    client, vip, ports = CLIENTS[version], VIPS[version], range(4000, 4020)
    answers = [frame(vip, client, 1000, port, protocol="udp") for port in ports]
    given = [frame(client, vip, port, 1000, protocol="udp") for port in ports]
    given += [icmp_error(client, vip, one, kind=3 if version == 4 else 1) for one in answers]

    with (
        Sandbox() as sandbox,
        PacketRunner(sandbox, build_world(sandbox), services(1), kind({})) as runner,
    ):
        outcomes = runner.run_all((one, PUBLIC) for one in given)

    assert {Verdict.REDIRECT} == {one.verdict for one in outcomes}
    assert 1 == len({one.node for one in outcomes})
