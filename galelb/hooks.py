# SPDX-License-Identifier: Apache-2.0
"""Every hook of galelb. Import `hookimpl` to write a plugin; nothing else lives here.

Four kinds, one rule each: *register* hooks are called once and return classes; *decide* hooks
are pure and the first answer that is not None wins; *notify* hooks are all called, must not
block, and one that fails is logged while the others still run; *collect* hooks are all asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import click

    from galelb.announcer import Announcer
    from galelb.forwarder import Forwarder
    from galelb.model import HealthReport, Metric, NodeRecord, Peer, Service, XdpMode
    from galelb.sources import BackgroundService, HealthSource, Scheduler
    from galelb.transport import SyncTransport

__all__ = ["PROJECT", "HookSpecs", "hookimpl", "hookspec"]

PROJECT = "galelb"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class HookSpecs:
    """The specifications; a plugin implements any of them and asks only for what it uses."""

    # register

    @hookspec
    def galelb_register_forwarders(self) -> Iterable[type[Forwarder]]:
        """Return forwarding strategies."""
        raise AssertionError

    @hookspec
    def galelb_register_schedulers(self) -> Iterable[type[Scheduler]]:
        """Return builders of lookup tables."""
        raise AssertionError

    @hookspec
    def galelb_register_health_sources(self) -> Iterable[type[HealthSource]]:
        """Return sources of health reports."""
        raise AssertionError

    @hookspec
    def galelb_register_sync_transports(self) -> Iterable[type[SyncTransport]]:
        """Return transports between balancers."""
        raise AssertionError

    @hookspec
    def galelb_register_announcers(self) -> Iterable[type[Announcer]]:
        """Return announcers of VIPs."""
        raise AssertionError

    @hookspec
    def galelb_register_services(self) -> Iterable[type[BackgroundService]]:
        """Return background services to run beside the balancer."""
        raise AssertionError

    @hookspec
    def galelb_register_commands(self) -> Iterable[click.Command]:
        """Return commands to add to the `galelb` command line."""
        raise AssertionError

    # decide

    @hookspec(firstresult=True)
    def galelb_build_table(
        self, service: Service, nodes: Sequence[tuple[str, float]], size: int, seed: int
    ) -> Sequence[int] | None:
        """Return the lookup table of a service: `size` positions in `nodes`, or None.

        `nodes` holds (address, weight) pairs; weights are above 0, and not whole while nodes
        start slowly or are busy. The core's default asks the service's scheduler. Runs in a
        worker thread.
        """

    @hookspec(firstresult=True)
    def galelb_judge_node(self, record: NodeRecord, report: HealthReport) -> bool | None:
        """Return whether this report counts as serving, or None for the core's judgement."""

    @hookspec(firstresult=True)
    def galelb_admit_node(self, report: HealthReport) -> bool | None:
        """Return whether an unknown node may join, or None; the core's default admits it."""

    @hookspec(firstresult=True)
    def galelb_merge_record(self, ours: NodeRecord, theirs: NodeRecord) -> NodeRecord | None:
        """Return the record that shall count as a peer's word on a node, or None for `theirs`.

        Called when a peer's word arrives on a node that this balancer knows, too. `theirs` holds
        what a peer says: address, name, weight, and whether the node is routable or down. Of the
        answer only `state` counts, as one voice in the group's majority.
        """

    # notify

    @hookspec
    def galelb_health_reported(self, report: HealthReport) -> None:
        """Called after a report was applied."""

    @hookspec
    def galelb_node_changed(self, old: NodeRecord | None, new: NodeRecord) -> None:
        """Called after a node's record changed; `old` is None for a new node."""

    @hookspec
    def galelb_table_changed(self, service: Service, digest: str, moved: float) -> None:
        """Called after a lookup table was replaced; `moved` is the share of slots that moved."""

    @hookspec
    def galelb_peer_changed(self, old: Peer | None, new: Peer) -> None:
        """Called after a peer joined, left, died or returned."""

    @hookspec
    def galelb_attached(self, interface: str, mode: XdpMode) -> None:
        """Called after a program was attached to an interface."""

    @hookspec
    def galelb_detached(self, interface: str) -> None:
        """Called after a program was detached from an interface."""

    @hookspec
    def galelb_started(self, plugins: Mapping[str, str]) -> None:
        """Called once when the balancer forwards; `plugins` maps names to versions."""

    @hookspec
    def galelb_stopping(self) -> None:
        """Called once before the balancer stops."""

    # collect

    @hookspec
    def galelb_metrics(self) -> Iterable[Metric]:
        """Return metrics of the plugin's own."""
        raise AssertionError
