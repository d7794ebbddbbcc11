# SPDX-License-Identifier: Apache-2.0
"""Signals end a lab in order, and errors come out as they went in."""

import os
import signal

import pytest
import trio

from galelb.errors import LabError
from galelb.lab.interrupts import run_interruptibly, terminable


async def fail_in_a_nursery() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        raise LabError("lb1 does not answer")


async def signal_oneself(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    await trio.sleep_forever()


async def answer() -> int:
    return 42


def test_the_result_comes_back() -> None:
    assert run_interruptibly(answer) == 42


def test_an_error_from_a_nursery_keeps_its_kind() -> None:
    with pytest.raises(LabError, match="lb1 does not answer"):
        run_interruptibly(fail_in_a_nursery)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_what_runs(number: signal.Signals) -> None:
    with pytest.raises(SystemExit) as caught:
        run_interruptibly(lambda: signal_oneself(number))

    assert caught.value.code == 128 + number


def test_ctrl_c_is_a_keyboard_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt):
        run_interruptibly(lambda: signal_oneself(signal.SIGINT))


def ended_by_sigterm(cleaned: list[str]) -> None:
    with terminable():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleaned.append("cleaned")


def test_a_signal_runs_finally_blocks_of_blocking_code() -> None:
    cleaned: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit):
        ended_by_sigterm(cleaned)

    assert cleaned == ["cleaned"]
    assert signal.getsignal(signal.SIGTERM) == before
