# SPDX-License-Identifier: Apache-2.0
"""Runs the forwarders' own background work, and keeps how they share their flows."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

import trio

from galelb.flowshare import FlowShare
from galelb.plugins.blame import blamed, run_blamed

if TYPE_CHECKING:
    from galelb.control.controller import Controller
    from galelb.datapath.programs import KernelDataPath

__all__ = ["ForwarderWork"]


class ForwarderWork:
    """A component: the work of one generation of programs after the other."""

    def __init__(self, controller: Controller, datapath: KernelDataPath, *, alone: bool) -> None:
        """`alone`: there is no group, so that nobody else could have our addresses."""
        self.shares: Mapping[str, FlowShare] = {}
        """By forwarder, those of the generation in use."""
        self._controller = controller
        self._datapath = datapath
        self._alone = alone
        self._scope = trio.CancelScope()
        self._switched = trio.Event()

    @contextlib.asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Have no work under way while programs and maps are replaced."""
        self._switched = trio.Event()
        self._scope.cancel()
        try:
            yield
        finally:
            self._switched.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled; started once the work of the first generation is."""
        while True:
            with trio.CancelScope() as self._scope:
                await self._run_generation(task_status)
            task_status = trio.TASK_STATUS_IGNORED
            await self._switched.wait()

    async def _run_generation(self, task_status: trio.TaskStatus[None]) -> None:
        served = self._controller.served
        if not self._alone:  # nobody else would read them, and they cost memory
            self.shares = self._make_shares()
        async with trio.open_nursery() as nursery:
            for name, forwarder in served.forwarders.items():
                for component in forwarder.components(self._datapath, served.host):
                    await nursery.start(run_blamed, name, component)
            task_status.started()
            await trio.sleep_forever()

    def _make_shares(self) -> dict[str, FlowShare]:
        served = self._controller.served
        shares = {}
        for name, forwarder in served.forwarders.items():
            with blamed(name, "flow_share"):
                share = forwarder.flow_share(self._datapath, served.host)
            if share is not None:
                shares[name] = share
        return shares
