# SPDX-License-Identifier: Apache-2.0
"""Plugins of every kind that exist for these tests only, and a reader of text as lb.toml."""

from pathlib import Path
from typing import Annotated, ClassVar

import pytest
from pydantic import AfterValidator, Field

from galelb.announcer import Announcer
from galelb.config import load_balancer_config
from galelb.errors import ConfigError
from galelb.forwarder import Forwarder, Options
from galelb.hooks import hookimpl
from galelb.plugins import Plugins
from galelb.sources import BackgroundService, HealthSource, Scheduler
from galelb.transport import SyncTransport


class NatOptions(Options):
    """Settings of the forwarder of these tests."""

    mode: str = "a"
    api_token: Annotated[str, Field(max_length=5)] = ""


class Nat(Forwarder):
    name = "nat"
    Options = NatOptions
    source = Path("nat.bpf.c")
    supports_tc = True

    def plan(self, view, maps):
        return {}

    def check(self, services, host):
        return [f"mode {self.options.mode} is odd"] if self.options.mode == "odd" else []


class OldNat(Nat):
    name = "old_nat"
    supports_ipv6 = False
    supports_tc = False


class TurnsOptions(Options):
    turns: int = Field(3, json_schema_extra={"shared": True})


class Turns(Scheduler):
    name = "turns"
    Options = TurnsOptions

    def build(self, nodes, size, seed):
        return [slot % len(nodes) for slot in range(size)]


class Component:
    async def run(self, *, task_status):
        task_status.started()


class Push(Component, HealthSource):
    name = "push"


class KeyOptions(Options):
    key_file: str


class Gossip(Component, SyncTransport):
    name = "gossip"
    Options = KeyOptions
    keys = None

    @classmethod
    def check(cls, options, addresses):
        return [f"{host} is odd" for host, _ in addresses if str(host).endswith("9")]

    def write(self, key, value): ...

    async def leave(self): ...


class Garp(Component, Announcer):
    name = "garp"

    def announce(self, vips): ...

    async def withdraw(self): ...


def explode(value):
    raise KeyError(value)


class FragileOptions(Options):
    x: Annotated[int, AfterValidator(explode)] = 0


class Fragile(Component, BackgroundService):
    name = "fragile"
    Options: ClassVar = FragileOptions


class Everything:
    @hookimpl
    def galelb_register_forwarders(self):
        return [Nat, OldNat]

    @hookimpl
    def galelb_register_schedulers(self):
        return [Turns]

    @hookimpl
    def galelb_register_health_sources(self):
        return [Push]

    @hookimpl
    def galelb_register_sync_transports(self):
        return [Gossip]

    @hookimpl
    def galelb_register_announcers(self):
        return [Garp]

    @hookimpl
    def galelb_register_services(self):
        return [Fragile]


FULL = """\
[instance]
name = "two"
run_dir = "/tmp/x"
[private_interface]
node_port = 1
api_port = 2
load_balancer_port = 3
net_interface_private = "eth0"
[public_interface]
clients_port = 4
net_interface_public = "eth0"
[node_health]
checks_before_routing = 1
checks_timeout = "1s"
black_list_after_fails = -1
black_list_expiry = "1m30s"
sources = ["push"]
[load_balancer_quorum]
enforce_single_configuration = true
addresses = [ { ip = "192.168.1.2", port = 8081 }, { ip = "fd00::1" } ]
transport = "gossip"
[forwarding]
plugin = "nat"
scheduler = "maglev"
table_size = 251
table_seed = 7
extra_interfaces = ["veth0"]
xdp_mode = "generic"
[announce]
plugin = "garp"
[[services]]
name = "dns"
vip = "fd00::53"
port = 53
protocol = "udp"
target_port = 5353
forwarder = "nat"
scheduler = "turns"
vlan = 5
nodes = ["fd00::9"]
[[nodes]]
ip = "fd00::9"
mac = "02-AA-00-00-00-01"
weight = 3
name = "nine"
[plugins.nat]
mode = "b"
[plugins.gossip]
key_file = "/etc/key"
"""


@pytest.fixture(scope="session")
def full():
    """A file with every key."""
    return FULL


@pytest.fixture(scope="module")
def plugins():
    return Plugins.discover(load_entry_points=False, extra=[Everything()])


@pytest.fixture
def load(tmp_path, plugins):
    def read(text, *select):
        path = tmp_path / "lb.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_balancer_config(path, plugins, select)

    return read


@pytest.fixture
def problems(load):
    """The problems of a file, without the path of the file."""

    def read(text, *select):
        with pytest.raises(ConfigError) as caught:
            load(text, *select)
        return [problem.partition("lb.toml")[2] for problem in caught.value.problems]

    return read
