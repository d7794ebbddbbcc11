# SPDX-License-Identifier: Apache-2.0
"""What a service manager is told, over sockets as systemd makes them."""

import os
import secrets
import socket
import time

import pytest
import trio
import trio.testing

from galelb.notify import Notifier


@pytest.fixture(params=["file", "abstract"])
def manager(request, tmp_path):
    """A listening manager; its `address` is what NOTIFY_SOCKET would say."""

    class Manager:
        def __init__(self):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            if request.param == "file":
                self.address = str(tmp_path / "notify")
                self.sock.bind(self.address)
            else:
                name = f"galelb-test-{secrets.token_hex(8)}"
                self.address = f"@{name}"
                self.sock.bind(f"\0{name}")

        def told(self):
            return self.sock.recv(4096).decode().split("\n")

    one = Manager()
    with one.sock:
        yield one


def test_readiness_is_told_with_a_status_of_one_line(manager):
    Notifier(manager.address).ready("two\nlines")

    assert ["READY=1", "STATUS=two lines"] == manager.told()


def test_a_reload_is_told_with_its_moment(manager):
    before = now_us()

    Notifier(manager.address).reloading()

    first, moment, _ = manager.told()
    assert "RELOADING=1" == first
    assert before <= int(moment.removeprefix("MONOTONIC_USEC=")) <= now_us()


def now_us():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_the_end_is_told(manager):
    Notifier(manager.address).stopping()

    assert "STOPPING=1" == manager.told()[0]


async def test_the_watchdog_hears_twice_in_its_time_while_the_loop_turns(manager, autojump_clock):
    notifier = Notifier(manager.address, watchdog_s=10)
    with trio.move_on_after(21):
        await notifier.keep_alive()

    heard = [manager.told() for _ in range(5)]
    assert [["WATCHDOG=1"]] * 5 == heard
    with pytest.raises(BlockingIOError):
        manager.told()


async def test_without_a_watchdog_nothing_is_sent(manager):
    await Notifier(manager.address).keep_alive()

    with pytest.raises(BlockingIOError):
        manager.told()


def test_nobody_listening_is_no_failure(tmp_path):
    Notifier(str(tmp_path / "nobody")).ready("fine")
    Notifier().ready("fine")


def test_the_environment_is_read_and_children_do_not_inherit_it():
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "3000000", "HOME": "/root"}
    environ["WATCHDOG_PID"] = str(os.getpid())

    notifier = Notifier.from_environment(environ)

    assert Notifier("/run/x", 3.0) == notifier
    assert {"HOME": "/root"} == environ


@pytest.mark.parametrize(
    "watchdog",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "often"},
        {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"},
    ],
)
def test_a_watchdog_of_somebody_else_or_none_is_not_answered(watchdog):
    assert Notifier("/run/x") == Notifier.from_environment({"NOTIFY_SOCKET": "/run/x"} | watchdog)
