# SPDX-License-Identifier: Apache-2.0
"""Local checks: what has to work on a node before it says that it serves."""

from __future__ import annotations

import os
import signal
import subprocess

import trio

from galelb.config.node import CheckSection, split_target
from galelb.node.health import LocalHealth
from galelb.node.reasons import os_reason

__all__ = ["CheckFailed", "probe", "run_check"]

_GOOD_STATUS = range(200, 400)


class CheckFailed(Exception):  # noqa: N818 - an outcome, not an error of the program
    """A check ran and did not pass; the text says why."""


async def run_check(check: CheckSection, health: LocalHealth) -> None:
    """Run one check every `interval` until cancelled and tell `health` each outcome."""
    while True:
        began = trio.current_time()
        try:
            await probe(check)
        except CheckFailed as failure:
            health.failed(check.name, str(failure))
        else:
            health.passed(check.name)
        await trio.sleep_until(max(began + check.interval, trio.current_time()))


async def probe(check: CheckSection) -> None:
    """Run a check once, within its time-out.

    Raises:
        CheckFailed: it did not pass.
    """
    runners = {"tcp": _tcp, "http": _http, "exec": _exec}
    try:
        with trio.fail_after(check.timeout):
            await runners[check.type](check)
    except trio.TooSlowError:
        raise CheckFailed(f"no answer within {check.timeout:g} s") from None


async def _tcp(check: CheckSection) -> None:
    host, port = split_target(check.target or "")
    try:
        stream = await trio.open_tcp_stream(host, port)
    except OSError as error:
        raise CheckFailed(f"cannot connect to {check.target}: {os_reason(error)}") from None
    await trio.aclose_forcefully(stream)


async def _http(check: CheckSection) -> None:
    import httpx  # an agent without such checks saves its memory

    url = check.url or ""
    timeout = 2 * check.timeout  # the caller's is the one that counts
    try:
        # No proxies and no certificates: it is the local service that is asked, not its name.
        async with (
            httpx.AsyncClient(timeout=timeout, verify=False, trust_env=False) as client,  # noqa: S501
            client.stream("GET", url, headers={"user-agent": "galelb-check"}) as response,
        ):
            status = response.status_code
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise CheckFailed(f"{url}: {error or type(error).__name__}") from None
    if status not in _GOOD_STATUS:
        raise CheckFailed(f"{url}: HTTP status {status}")


async def _exec(check: CheckSection) -> None:
    try:
        done = await trio.run_process(
            check.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            start_new_session=True,
            deliver_cancel=_kill,
        )
    except OSError as error:
        raise CheckFailed(f"cannot run {check.command[0]}: {os_reason(error)}") from None
    if done.returncode:
        raise CheckFailed(f"{check.command[0]} exited with {done.returncode}")


async def _kill(process: trio.Process) -> None:
    """Kill a check that is out of time, with all that it started: the next run is due."""
    os.killpg(process.pid, signal.SIGKILL)
