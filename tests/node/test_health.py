# SPDX-License-Identifier: Apache-2.0
"""What a node says of itself."""

import trio
import trio.testing

from galelb.config.node import CheckSection
from galelb.model import HealthStatus
from galelb.node.health import LocalHealth


def check(name="web", **more):
    return CheckSection(name=name, type="tcp", target="127.0.0.1:80", **more)


def watch(nursery, health):
    seen = []

    async def run():
        while True:
            await health.changed.wait()
            seen.append(health.status)

    nursery.start_soon(run)
    return seen


async def test_without_checks_a_node_serves():
    health = LocalHealth(())

    assert (HealthStatus.SERVING, "") == (health.status, health.message)


async def test_without_checks_all_is_known_at_once(autojump_clock):
    with trio.fail_after(1):
        await LocalHealth(()).wait_known()


async def test_nothing_is_known_before_every_check_had_its_outcome(nursery, autojump_clock):
    health = LocalHealth([check("a"), check("b")])
    known = trio.Event()

    async def wait():
        await health.wait_known()
        known.set()

    nursery.start_soon(wait)
    health.passed("a")
    await trio.testing.wait_all_tasks_blocked()
    before = known.is_set()
    health.failed("b", "refused")
    await trio.testing.wait_all_tasks_blocked()

    assert (False, True) == (before, known.is_set())
    assert (HealthStatus.NOT_SERVING, "b: refused") == (health.status, health.message)


async def test_one_failing_check_is_enough_not_to_serve():
    health = LocalHealth([check("a"), check("b")])
    health.passed("a")
    health.failed("b", "refused")

    assert HealthStatus.NOT_SERVING == health.status


async def test_fall_and_rise():
    health = LocalHealth([check(rise=2, fall=3)])
    outcomes = "ppffpfffpfpp"
    seen = ""
    for outcome in outcomes:
        if outcome == "p":
            health.passed("web")
        else:
            health.failed("web", "no")
        seen += "S" if health.status is HealthStatus.SERVING else "n"

    assert "nSSSSSSnnnnS" == seen


async def test_the_first_outcome_counts_at_once_when_it_is_bad():
    health = LocalHealth([check(fall=5)])
    health.failed("web", "refused")

    assert (HealthStatus.NOT_SERVING, "web: refused") == (health.status, health.message)


async def test_changes_are_told_once(nursery, autojump_clock):
    health = LocalHealth([check(fall=1)])
    seen = watch(nursery, health)
    await trio.testing.wait_all_tasks_blocked()
    for outcome in "ppffp":
        if outcome == "p":
            health.passed("web")
        else:
            health.failed("web", "no")
        await trio.testing.wait_all_tasks_blocked()

    assert [HealthStatus.SERVING, HealthStatus.NOT_SERVING, HealthStatus.SERVING] == seen
    nursery.cancel_scope.cancel()


async def test_leaving_outdoes_everything():
    health = LocalHealth([check()])
    health.leave()
    health.passed("web")

    assert HealthStatus.SHUTTING_DOWN == health.status


async def test_leaving_does_not_wait_for_checks(autojump_clock):
    health = LocalHealth([check()])
    health.leave()

    with trio.fail_after(1):
        await health.wait_known()
