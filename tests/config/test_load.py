# SPDX-License-Identifier: Apache-2.0
"""lb.toml: every key is read, defaults are those of the documentation, odd things are warnings."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from galelb.config import config_warnings, missing_interfaces
from galelb.errors import PluginError
from galelb.model import Protocol

INTERFACES = """\
[private_interface]
net_interface_private = "eth0"
[public_interface]
net_interface_public = "eth1"
"""
BASE = INTERFACES + '[forwarding]\nplugin = "nat"\n[node_health]\nsources = ["push"]\n'
SERVICE = '[[services]]\nname = "{}"\nvip = "{}"\nport = {}\n'


def test_the_shortest_file_has_the_defaults_of_the_documentation(load):
    config = load(BASE)

    assert (7070, 5555, 9090) == (
        config.private_interface.node_port,
        config.private_interface.api_port,
        config.private_interface.load_balancer_port,
    )
    assert 8080 == config.public_interface.clients_port
    health = config.node_health
    assert (3, 5.0, 5, 300.0) == (
        health.checks_before_routing,
        health.checks_timeout,
        health.black_list_after_fails,
        health.black_list_expiry,
    )
    assert not config.load_balancer_quorum.enforce_single_configuration
    assert Path("/run/galelb/default") == config.instance.directory
    assert ("maglev", 65537) == (config.forwarding.scheduler, config.forwarding.table_size)
    assert {"fragile", "maglev", "nat", "push"} == set(config.plugins)


def test_every_key_is_read(load, full):
    config = load(full)

    assert Path("/tmp/x/two") == config.instance.directory
    assert 90.0 == config.node_health.black_list_expiry
    assert -1 == config.node_health.black_list_after_fails
    assert [("192.168.1.2", 8081), ("fd00::1", 9090)] == [
        (str(peer.ip), peer.port) for peer in config.load_balancer_quorum.addresses
    ]
    assert ("veth0",) == config.forwarding.extra_interfaces
    (service,) = config.configured_services()
    assert (Protocol.UDP, 5353, 5) == (service.protocol, service.target_port, service.vlan)
    assert ("nat", "turns") == (service.forwarder, service.scheduler)
    assert (ip_address("fd00::9"),) == service.nodes
    (node,) = config.nodes
    assert "02:aa:00:00:00:01" == node.mac
    assert node.node().static
    assert "b" == config.plugins["nat"].mode
    assert "/etc/key" == config.plugins["gossip"].key_file


def test_a_target_port_left_out_is_the_service_port(load):
    config = load(BASE + '[[services]]\nname = "a"\nvip = "10.0.0.1"\nport = 80\n')

    assert (80, "nat") == (
        config.configured_services()[0].target_port,
        config.configured_services()[0].forwarder,
    )


def test_a_service_that_names_no_scheduler_has_that_of_all(load):
    named = SERVICE.format("a", "10.0.0.1", 80) + 'scheduler = "turns"\n'
    config = load(BASE + named + SERVICE.format("b", "10.0.0.1", 81))

    assert ["turns", "maglev"] == [s.scheduler for s in config.configured_services()]
    assert ("maglev", "turns") == config.schedulers
    assert 3 == config.plugins["turns"].turns


def test_plugins_on_the_command_line_override_the_file(load):
    config = load(BASE, "old_nat", "garp", "push", "turns")

    assert ("old_nat", "turns") == (config.forwarding.plugin, config.forwarding.scheduler)
    assert "garp" == config.announce.plugin
    assert ("push",) == config.node_health.sources


def test_a_plugin_on_the_command_line_that_nobody_installed(load):
    with pytest.raises(PluginError, match=r'old_nta: no such plugin \(did you mean "old_nat"\?\)'):
        load(BASE, "old_nta")


def test_interfaces_that_this_machine_lacks_are_named_once(load):
    config = load(BASE.replace("eth1", "lo").replace("eth0", "nope0"))

    assert ["nope0"] == missing_interfaces(config)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (BASE.replace('"push"', ""), "no node will ever get traffic"),
        (BASE + '[load_balancer_quorum]\naddresses = [{ip="10.0.0.9"}]\n', "without a transport"),
        (
            BASE + SERVICE.format("a", "10.0.0.1", 80) + '[[nodes]]\nip="fd00::1"\n',
            "nodes[0]: no service has an IPv6 VIP",
        ),
        (
            BASE.replace('"nat"', '"nat"\ntable_size = 101') + '[[nodes]]\nip="10.0.0.9"\n' * 1
            + '[[nodes]]\nip="10.0.0.8"\n',
            "use a prime above 200",
        ),
        (
            BASE.replace('"push"', "") + SERVICE.format("a", "10.0.0.1", 80)
            + 'nodes = ["10.0.0.7"]\n[[nodes]]\nip="10.0.0.8"\n',
            "10.0.0.7 is not in [[nodes]]",
        ),
    ],
)  # fmt: skip
def test_what_is_hardly_meant_is_a_warning(load, text, warning):
    (found,) = config_warnings(load(text))

    assert warning in found


def test_a_configuration_is_frozen(load):
    config = load(BASE)

    with pytest.raises(ValueError, match="frozen"):
        config.forwarding.plugin = "x"
