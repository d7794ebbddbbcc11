# SPDX-License-Identifier: Apache-2.0
"""A machine, its services and empty maps for the tests of l4_nat's Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from ipaddress import ip_address
from typing import Any

import attrs
import pytest
from galelb_plugins.l4_nat.codec import slice_from_leaf
from galelb_plugins.l4_nat.entries import EntryTable
from galelb_plugins.l4_nat.layout import layout
from galelb_plugins.l4_nat.options import L4NatOptions
from galelb_plugins.l4_nat.plugin import L4Nat
from galelb_plugins.l4_nat.share import NatShare
from galelb_plugins.l4_nat.sweep import current_tick

from galelb.flowshare import Accepted
from galelb.forwarder import ForwardingView, HostView, PlannedNode
from galelb.model import Interface, Protocol, Service
from galelb.testing.cases import Play
from galelb.testing.fake_maps import FakeMap
from galelb.testing.kernel import Sandbox
from galelb.testing.runner import PacketRunner
from galelb.testing.services import Runners, make_services
from galelb.testing.world import build_world


def _same_port(version: int) -> Service:
    name = f"same{version}"
    service = make_services("l4_nat")[f"tcp{version}"]
    return attrs.evolve(service, name=name, port=443, target_port=443)


SERVICES = make_services("l4_nat", target_offset=8000) | {
    "same4": _same_port(4),
    "same6": _same_port(6),
}


class Machine:
    """Builds what the plugin's methods are handed."""

    @staticmethod
    def host(
        *addresses: str, ports: tuple[int, int] = (32768, 60999), public: Sequence[str] = ()
    ) -> HostView:
        return HostView(
            private=Machine.interface("priv", 2, addresses),
            public=Machine.interface("pub", 3, public),
            ip_local_port_range=ports,
            tick_shift=8,
            hz=250,
            flow_seed=1,
        )

    @staticmethod
    def interface(name: str, number: int, addresses: Sequence[str]) -> Interface:
        own = tuple(ip_address(a) for a in addresses)
        mac = f"02:00:00:00:00:{number:02x}"
        return Interface(name=name, ifindex=number, mac=mac, mtu=1500, addresses=own)

    @staticmethod
    def service(
        name: str = "web", vip: str = "198.51.100.1", port: int = 80, **more: Any
    ) -> Service:
        values: dict[str, Any] = {
            "protocol": Protocol.TCP,
            "target_port": 8080,
            "forwarder": "l4_nat",
        }
        return Service(name=name, vip=ip_address(vip), port=port, **(values | more))

    @staticmethod
    def view(services: Sequence[Service], nodes: Sequence[str], host: HostView) -> ForwardingView:
        numbered = {
            n: PlannedNode(index=n, address=ip_address(address))
            for n, address in enumerate(nodes, 1)
        }
        return ForwardingView(services=dict(enumerate(services, 1)), nodes=numbered, host=host)

    @staticmethod
    def maps(
        options: L4NatOptions, services: Sequence[Service], host: HostView
    ) -> dict[str, FakeMap]:
        sizes = layout(options, services, host)
        made = {
            name: FakeMap(f"l4_nat_{name}")
            for name in ("slices", "slice_ids", "sources", "settings", "lease")
        }
        for version, size in ((4, 16), (6, 32)):
            slots = options.max_slices * sizes.shapes[version].stride
            for name, elements in (("flows", sizes.buckets * 4), ("ports", max(1, slots))):
                made[f"{name}{version}"] = FakeMap(
                    f"l4_nat_{name}{version}", elements, leaf_size=size
                )
        return {fake.name: fake for fake in made.values()}


@pytest.fixture
def machine() -> type[Machine]:
    return Machine


class NatRunners:
    """Compiled programs by mode and context, made when first asked for and kept."""

    def __init__(self, runners: Runners) -> None:
        self._runners = runners

    def get(self, mode: str, context: str) -> PacketRunner:
        return self.make(context, mode=mode, max_flows=4096, max_slices=32)

    def make(
        self, context: str, *, hurry: bool = False, kinds=None, fresh=None, **options
    ) -> PacketRunner:
        """A runner with these options; `kinds` picks services, `hurry` makes flows age fast.

        Runners are shared; a `fresh` value of one's own gives a runner without flows.
        """
        services = [SERVICES[kind] for kind in kinds or SERVICES]

        def build(sandbox: Sandbox) -> PacketRunner:
            world = build_world(sandbox, hurry=hurry)
            forwarder = L4Nat(L4NatOptions(**options))
            return PacketRunner(sandbox, world, services, forwarder, context=context)

        return self._runners.get((context, hurry, kinds, fresh, *options.items()), build)


@pytest.fixture(scope="session")
def runners() -> Iterator[NatRunners]:
    with ExitStack() as stack:
        yield NatRunners(Runners(stack))


@pytest.fixture
def nat(runners: NatRunners) -> Iterator[Callable[..., Play]]:
    """Start a conversation; what a test changes about nodes and next hops is undone after it."""
    used: list[PacketRunner] = []

    def start(mode: str, context: str, kind: str, *, local: bool = False) -> Play:
        runner = runners.get(mode, context)
        used.append(runner)
        return Play.start(runner, SERVICES[kind], full_nat=mode == "full_nat", local=local)

    yield start
    for runner in used:
        runner.restore()


class Audit:
    """Says whether forward entries and ways back agree one to one; empty = they do."""

    def __init__(self, runner: PacketRunner) -> None:
        self.problems: list[str] = []
        self.flows = 0
        self._maps = runner.maps
        self._slices = {
            leaf["id"]: slice_from_leaf(leaf) for _, leaf in runner.maps["l4_nat_slices"].items()
        }
        for version in (4, 6):
            self._family(version)
        held = [n for n, lock in runner.maps["l4_nat_locks"].items() if lock]
        self.problems += [f"lock {n} is held" for n in held]

    def _family(self, version: int) -> None:
        forward = self._table("flows", version)
        back = self._table(
            "ports" if f"l4_nat_ports{version}" in self._maps else "returns", version
        )
        expected = {}
        for index, entry in forward.items():
            place = self._place(entry, version)
            if place in expected:
                self.problems.append(f"two flows hold {place}: {expected[place]}, {entry}")
            expected[place] = entry
            self.flows += 1
            if place not in back:
                self.problems.append(f"flow without a way back: {index} {entry} at {place}")
            elif self._key(back[place]) != self._key(entry):
                self.problems.append(f"crossed: {entry} and {back[place]} at {place}")
        self.problems += [
            f"way back without a flow: {p} {back[p]}" for p in set(back) - set(expected)
        ]

    def _table(self, name: str, version: int):
        """Used entries: forward ones by index, ways back by place; keys must be unique."""
        table = EntryTable(self._maps[f"l4_nat_{name}{version}"], version)
        total = self._maps[f"l4_nat_{name}{version}"].max_entries * (1 if name == "ports" else 4)
        busy = [n for n, word in enumerate(table.words(0, total)) if word == 1]
        self.problems += [f"{name}{version} entry {n} is still being written" for n in busy]
        used = dict(table.used())
        if name != "ports":
            keys = [(e.client, e.client_port, e.id) for e in used.values()]
            self.problems += [f"{name}{version}: {k} twice" for k in set(keys) if keys.count(k) > 1]
        if name == "returns":
            return {(e.client, e.client_port, e.id): e for e in used.values()}
        return used

    def _place(self, entry, version: int):
        part = self._slices[entry.first]
        if f"l4_nat_ports{version}" in self._maps:
            return part.base + entry.second - part.first_port
        return entry.client, entry.client_port, part.id

    def _key(self, entry):
        if "l4_nat_ports4" in self._maps:
            return entry.client, entry.client_port, entry.id
        return entry.client, entry.client_port


@pytest.fixture
def audit() -> type[Audit]:
    return Audit


class Balancer:
    """One of a group: its programs, and what shares their flows."""

    def __init__(self, runner: PacketRunner) -> None:
        self.runner = runner
        self.share: NatShare = runner.forwarder.flow_share(runner, runner.world.host)
        self.share.permit(None, whole=True)

    def meet(self, *others: Balancer) -> None:
        """Have room for the flows of others."""
        self.share.make_room([one for other in others for one in other.share.own()])
        self.runner.replan()

    def tell(self, *others: Balancer) -> list[Accepted]:
        """Tell others what is new here; returns what they made of it."""
        batches = self.share.changes()
        return [other.share.accept(batch) for other in others for batch in batches]

    def service(self, kind: str) -> Service:
        return next(one for one in self.runner.services.values() if one.name == kind)

    def play(self, kind: str) -> Play:
        full_nat = self.runner.forwarder.options.mode == "full_nat"
        return Play.start(self.runner, self.service(kind), full_nat=full_nat)

    def take_over(self, play: Play) -> Play:
        """Return the same conversation with its packets coming here."""
        return Play(self.runner, play.talk)

    def flow(self, play: Play):
        """Return the flow of a conversation as `galelb flows` shows it, or None."""
        wanted = (ip_address(play.talk.client), play.talk.client_port, play.talk.service.name)
        view = self.runner.view()
        for one in self.runner.forwarder.flows(self.runner, view, limit=1 << 20):
            if (one.client, one.client_port, one.service) == wanted:
                return one
        return None


def added(results: Sequence[Accepted]) -> Accepted:
    """Return the sums of what became of batches."""
    names = [field.name for field in attrs.fields(Accepted)]
    return Accepted(**{name: sum(getattr(one, name) for one in results) for name in names})


def own_addresses(number: int) -> tuple[Any, ...]:
    return ip_address(f"10.0.0.{200 + number}"), ip_address(f"fd00::{200 + number}")


@pytest.fixture
def group(runners: NatRunners) -> Callable[..., list[Balancer]]:
    """Make balancers with an address each, which have told each other all that is there.

    Tests that give the same options share them, flows and all; a `name` of one's own does not.
    """

    def make(
        mode: str = "full_nat",
        context: str = "xdp",
        *,
        count: int = 2,
        name: str = "lb",
        **more: Any,
    ):
        options = {"max_flows": 4096, "max_slices": 64} | more
        made = []
        for number in range(1, count + 1):
            own = {"source_addresses": own_addresses(number)} if mode == "full_nat" else {}
            runner = runners.make(context, mode=mode, fresh=f"{name}{number}", **own, **options)
            made.append(Balancer(runner))
        for one in made:
            one.meet(*(other for other in made if other is not one))
            one.share.changes()
        return made

    return make


@pytest.fixture(scope="session")
def tick_of() -> Callable[[PacketRunner], int]:
    """The tick that ages are compared with."""
    return current_tick
