# SPDX-License-Identifier: Apache-2.0
"""Health sources come, go and are told of a reload."""

from ipaddress import ip_address
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from galelb.control.sources import HealthSources, checkers
from galelb.errors import GaleError, PluginError
from galelb.sources import BalancerContext, HealthSource


class Reporter(HealthSource):
    """A source that nodes report to."""

    name = "reporter"

    def __init__(self, options, context):
        super().__init__(options, context)
        self.seen = [options]
        self.running = False

    async def run(self, *, task_status):
        self.running = True
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self.running = False

    def reload(self, options, config):
        super().reload(options, config)
        self.seen.append(options)

    def notes(self):
        return [f"{self.name} has {self.options}"]


class Checker(Reporter):
    name = "checker"
    checks = True


class Broken(HealthSource):
    name = "broken"
    checks = True

    async def run(self, *, task_status):
        raise GaleError("port in use")


KINDS = {kind.name: kind for kind in (Reporter, Checker, Broken)}


def config(*sources, options="one"):
    return SimpleNamespace(
        node_health=SimpleNamespace(sources=sources), plugins=dict.fromkeys(KINDS, options)
    )


class Desk:
    def __init__(self):
        self.gone = []
        self.checkers = None

    def unused(self, source):
        self.gone.append(source)

    def use_checkers(self, names):
        self.checkers = tuple(names)


class World:
    def __init__(self):
        self.made = []
        self.desk = Desk()
        self.context = BalancerContext(
            config=config(),
            private_addresses=(ip_address("10.0.0.1"),),
            report=lambda report: None,
            node_gone=lambda *_: None,
            nodes=tuple,
        )
        self.plugins = SimpleNamespace(health_source=self._health_source)
        self.sources = HealthSources(self.plugins, self.desk, self.context)

    def _health_source(self, name):
        def make(options, context):
            self.made.append(KINDS[name](options, context))
            return self.made[-1]

        make.checks = KINDS[name].checks
        return make


@pytest.fixture
async def world(nursery):
    world = World()
    await nursery.start(world.sources.run)
    return world


async def test_the_named_sources_run(world):
    await world.sources.use(config("reporter", "checker"))

    assert [("reporter", True), ("checker", True)] == [(o.name, o.running) for o in world.made]
    assert ("checker",) == world.desk.checkers


async def test_a_source_that_is_named_no_more_ends_and_is_forgotten(world):
    await world.sources.use(config("reporter", "checker"))
    await world.sources.use(config("reporter"))

    assert [True, False] == [one.running for one in world.made]
    assert (["checker"], ()) == (world.desk.gone, world.desk.checkers)


async def test_a_source_that_stays_is_told_of_the_reload(world):
    await world.sources.use(config("reporter"))
    await world.sources.use(config("reporter", "checker", options="two"))

    assert [["one", "two"], ["two"]] == [one.seen for one in world.made]
    assert [] == world.desk.gone


async def test_a_source_that_cannot_start_is_an_error_and_its_checks_are_not_waited_for(world):
    with pytest.raises(GaleError, match="port in use"):
        await world.sources.use(config("broken", "checker"))

    assert ("checker",) == world.desk.checkers
    assert [False, True] == [getattr(one, "running", False) for one in world.made]


async def test_while_running_it_is_left_out(world):
    await world.sources.change(config("broken", "reporter"))

    assert world.made[-1].running


async def test_a_source_that_fails_later_ends_the_balancer():
    class Failing(Reporter):
        name = "reporter"

        async def run(self, *, task_status):
            task_status.started()
            raise ValueError("a bug")

    world = World()
    world.plugins.health_source = lambda name: Failing

    async def run():
        async with trio.open_nursery() as nursery:
            await nursery.start(world.sources.run)
            await world.sources.use(config("reporter"))

    with pytest.raises(ExceptionGroup) as caught:
        await run()

    error = caught.value
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, PluginError)


async def test_notes_are_those_of_the_sources_that_run(world):
    await world.sources.use(config("reporter", "checker"))
    await world.sources.use(config("checker", options="two"))

    assert ["checker has two"] == world.sources.notes()


def test_checkers_are_the_sources_that_look_themselves():
    plugins = SimpleNamespace(health_source=KINDS.__getitem__)

    assert ("checker",) == checkers(config("reporter", "checker"), plugins)
