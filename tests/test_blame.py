# SPDX-License-Identifier: Apache-2.0
import pytest
import trio

from galelb.errors import GaleError, MapError, PluginError
from galelb.plugins.blame import blamed, run_blamed


def test_what_a_plugin_raises_has_its_name_on_it():
    text = r"my_plugin.*plan failed: KeyError: 'x'"
    with pytest.raises(PluginError, match=text) as caught, blamed("my_plugin", "plan"):
        {}["x"]

    assert isinstance(caught.value.__cause__, KeyError)


def test_errors_of_ours_pass_unchanged():
    with pytest.raises(MapError), blamed("my_plugin", "plan"):
        raise MapError("gale_nodes", "update", "full")


class Failing:
    def __init__(self, error):
        self.error = error

    async def run(self, *, task_status):
        task_status.started()
        async with trio.open_nursery():
            raise self.error


async def test_a_component_that_fails_says_whose_it_is():
    with pytest.raises(PluginError, match=r"my_plugin.*Failing failed: ValueError: odd"):
        await run_blamed("my_plugin", Failing(ValueError("odd")))


async def test_a_component_that_fails_with_an_error_of_ours_keeps_it():
    with pytest.raises(ExceptionGroup) as caught:
        await run_blamed("my_plugin", Failing(GaleError("port in use")))

    assert caught.group_contains(GaleError, match="port in use")


async def test_cancelling_is_not_a_failure():
    class Sleeping:
        async def run(self, *, task_status):
            task_status.started()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: run_blamed("p", Sleeping(), task_status=task_status)
        )
        nursery.cancel_scope.cancel()


async def test_a_component_that_ends_without_having_started_is_named():
    class Idle:
        async def run(self, *, task_status):
            pass

    async with trio.open_nursery() as nursery:
        with pytest.raises(PluginError, match="my_plugin: Idle ended without"):
            await nursery.start(run_blamed, "my_plugin", Idle())
