# SPDX-License-Identifier: Apache-2.0
"""Puts the API of a running balancer together."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import structlog

from galelb.api.server import ApiServer
from galelb.capture.recorder import Recorder
from galelb.control.host_notes import api_addresses
from galelb.control.view import RunningView
from galelb.control.work import Work

if TYPE_CHECKING:
    import trio

    from galelb.config import BalancerConfig
    from galelb.control.chronicle import Chronicle
    from galelb.control.controller import Controller
    from galelb.control.lag import LoopLag
    from galelb.control.nodes import NodeDesk
    from galelb.control.sources import HealthSources
    from galelb.datapath.deployment import Deployment
    from galelb.datapath.programs import KernelDataPath
    from galelb.group.membership import Membership
    from galelb.model import Interface
    from galelb.plugins import Plugins

__all__ = ["api_server", "running_view"]

log = structlog.get_logger("galelb.edge")


def running_view(
    *,
    config: BalancerConfig,
    plugins: Plugins,
    controller: Controller,
    datapath: KernelDataPath,
    deployment: Deployment,
    reloading: trio.Lock,
    desk: NodeDesk,
    sources: HealthSources,
    chronicle: Chronicle,
    lag: LoopLag,
    adopted: bool,
    membership: Membership | None,
    remember: Callable[[], Awaitable[None]],
) -> RunningView:
    """Return what the API sees; logs what forwarders note of their capacity and the like."""
    for note in controller.served.notes():
        log.info("note", text=note)
    return RunningView(
        config=config,
        plugin_set=plugins,
        controller=controller,
        datapath=datapath,
        interfaces=deployment.attacher.statuses,
        changed=desk.settle,
        version=importlib.metadata.version("galelb"),
        recorder=Recorder(deployment, controller, reloading),
        work=Work(chronicle=chronicle, lag=lag, report_times=desk.report_times),
        source_notes=sources.notes,
        adopted=adopted,
        membership=membership,
        remember=remember,
    )


def api_server(view: RunningView, private: Interface) -> ApiServer:
    """Return the API on the addresses of the private interface."""
    section = view.config.private_interface
    return ApiServer(
        view,
        addresses=api_addresses(private, view.controller.served.services.values()),
        port=section.api_port,
        directory=view.config.instance.directory,
        ifindex=private.ifindex,
        token_reads=section.api_token_reads,
    )
