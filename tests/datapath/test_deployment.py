# SPDX-License-Identifier: Apache-2.0
from ipaddress import ip_address
from types import SimpleNamespace

import pytest

from galelb.control.identity import Numbering
from galelb.control.state import SavedState
from galelb.datapath.deployment import Deployment
from galelb.errors import GaleError
from galelb.model import Protocol, Service
from galelb.plugins import Plugins
from galelb.services import service_key


def service(port):
    return Service(
        name=f"s{port}",
        vip=ip_address("192.0.2.1"),
        port=port,
        protocol=Protocol.TCP,
        target_port=port,
        forwarder="fake",
    )


def deployment(ids, served, held, *, loaded=True):
    interface = {"net_interface_private": "eth0", "net_interface_public": "eth0"}
    config = SimpleNamespace(
        forwarding=SimpleNamespace(xdp_mode="auto", extra_interfaces=()),
        private_interface=SimpleNamespace(**interface),
        public_interface=SimpleNamespace(**interface),
    )
    forwarder = SimpleNamespace(held_services=lambda maps: held)
    controller = SimpleNamespace(
        served=SimpleNamespace(services=served, forwarders={"fake": forwarder}, maps={})
    )
    return Deployment(
        plugins=Plugins(),
        datapath=SimpleNamespace(loaded=loaded),
        controller=controller,
        service_ids=ids,
        adopted=SavedState(),
        netlink=None,
        config=config,
    )


def full(*ports):
    return Numbering("service", len(ports), {service_key(service(p)): p for p in ports})


async def test_ids_of_former_services_are_given_again_unless_flows_hold_them():
    subject = deployment(full(1, 2, 3), {1: service(1)}, {2})

    numbered = await subject._numbered([service(1), service(9)])

    assert {1: "s1", 3: "s9"} == {number: one.name for number, one in numbered.items()}


async def test_ids_are_kept_while_there_are_others():
    ids = full(1, 2, 3)
    ids.release([service_key(service(2))])

    await deployment(ids, {1: service(1)}, ())._numbered([service(1), service(9)])

    assert ids.get(service_key(service(3))) == 3


@pytest.mark.parametrize(("held", "loaded"), [(None, True), ((), False)])
async def test_ids_that_may_be_held_are_not_given_again(held, loaded):
    subject = deployment(full(1, 2), {1: service(1)}, held, loaded=loaded)

    with pytest.raises(GaleError, match="more than 2 services"):
        await subject._numbered([service(9)])


async def test_a_forwarder_that_fails_is_named():
    subject = deployment(full(1), {}, 5)

    with pytest.raises(GaleError, match=r"fake.*held_services|held_services.*fake"):
        await subject._numbered([service(9)])
