# SPDX-License-Identifier: Apache-2.0
"""Plugins of every kind that exist for these tests only, and a reader of text as lb.toml."""

from pathlib import Path
from typing import Annotated, ClassVar

import pytest
from pydantic import AfterValidator, Field

from galelb.config import load_balancer_config
from galelb.errors import ConfigError
from galelb.forwarder import Forwarder, Options
from galelb.hooks import hookimpl
from galelb.plugins import Plugins
from galelb.sources import Announcer, BackgroundService, HealthSource, SyncTransport


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


class Garp(Component, Announcer):
    name = "garp"


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
