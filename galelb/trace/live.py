# SPDX-License-Identifier: Apache-2.0
"""A world copied of a running balancer: its maps as they are now, its interfaces, its numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING

import attrs
import trio

from galelb.bpf.bpffs import ensure_bpffs
from galelb.bpf.layout import MapType
from galelb.bpf.maps import PinnedMap
from galelb.bpf.testrun import RunResult
from galelb.control.state import SavedState, load_state
from galelb.datapath.host import host_view
from galelb.datapath.interfaces import wanted_interfaces
from galelb.datapath.programs import KernelDataPath
from galelb.datapath.request import load_request
from galelb.datapath.sandbox import Sandbox
from galelb.errors import ConfigError, GaleError, MapError
from galelb.netlink import open_netlink
from galelb.services import resolve_services, service_key
from galelb.trace.world import World, load, place, sides

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from galelb.config import BalancerConfig
    from galelb.datapath.programs import LoadRequest
    from galelb.model import Interface, Service
    from galelb.plugins import Plugins

__all__ = ["live_world"]

_NO_MAC = "02:00:00:00:00:fe"
"""The sender of packets that a file holds without a link layer."""
_NOT_COPIED = {MapType.PROG_ARRAY, MapType.RINGBUF}
_OWN = {"gale_trace", "gale_scratch"}


@contextlib.contextmanager
def live_world(config: BalancerConfig, plugins: Plugins, *, large: bool = False) -> Iterator[World]:
    """Copy the balancer that this configuration names; it goes on and notices nothing.

    Must be called in its network namespace, where the programs then run, too. A balancer that
    died but whose programs still forward will do. Raises GaleError.
    """
    pins = _pins(config)
    state = load_state(config.instance.directory)
    present = _present(config)
    private, public = (present[name] for name in sides(config))
    services = _numbered(config, resolve_services(config, public), state)
    host = host_view(private, public, state.flow_seed)
    request = load_request(plugins, config, services, host, present)
    with Sandbox() as sandbox, contextlib.ExitStack() as stack:
        generation = load(stack, sandbox, request, large=large)
        _copy_maps(pins, generation.maps)
        numbers = {ip_address(text): number for text, number in state.nodes.items()}
        yield World(
            generation=generation,
            place=place(config, present, services, numbers, _NO_MAC),
            run=_here,
            notes=_notes(config, pins, request, state),
        )


def _here(function: Callable[[], RunResult]) -> RunResult:
    return function()


def _pins(config: BalancerConfig) -> Path:
    directory = config.instance.directory
    if not (directory / "state.json").is_file():
        raise GaleError(
            f"no balancer is or was running as {config.instance.name}: nothing is in {directory};"
            " name its configuration with --config, or trace without --live"
        )
    return ensure_bpffs(directory / "bpf")


def _present(config: BalancerConfig) -> dict[str, Interface]:
    present = trio.run(_interfaces)
    if missing := [name for name in wanted_interfaces(config) if name not in present]:
        raise ConfigError(
            [
                f"{config.path}: this network namespace has no interface {name}: run the trace"
                " where the balancer runs"
                for name in missing
            ]
        )
    return present


async def _interfaces() -> dict[str, Interface]:
    async with open_netlink() as netlink:
        return dict(await netlink.interfaces())


def _numbered(
    config: BalancerConfig, services: Sequence[Service], state: SavedState
) -> dict[int, Service]:
    """Return the services by the ids that the balancer gave them."""
    found: dict[int, Service] = {}
    for service in services:
        number = state.services.get(service_key(service))
        if number is None:
            raise GaleError(
                f"{config.path} has the service {service.name}, which the balancer does not serve:"
                " have it reread the file (SIGHUP), or trace without --live"
            )
        found[number] = service
    return found


def _copy_maps(pins: Path, maps: Mapping[str, PinnedMap]) -> None:
    """Copy what packets depend on, but for locks: who held one then will not release the copy."""
    for name, target in maps.items():
        layout = target.layout
        if layout.type in _NOT_COPIED or name in _OWN or name.endswith("_locks"):
            continue
        try:
            source = PinnedMap(attrs.evolve(layout, pin=pins / layout.pin.name))
        except MapError as error:
            raise GaleError(
                "the balancer was started with another configuration, or another version of"
                f" galelb, than this one: {error}"
            ) from None
        try:
            source.copy_to(target)
        finally:
            source.close()


def _notes(
    config: BalancerConfig, pins: Path, request: LoadRequest, state: SavedState
) -> list[str]:
    """Return in what the trace may differ from what happens."""
    found = []
    loaded = KernelDataPath(pins, None)
    forms = (request, attrs.evolve(request, capture=True))
    if not any(loaded.entry_pin(form).exists() for form in forms):
        found.append(
            f"the balancer's programs were not made of {config.path} as it is now: this is what"
            " programs made of it do. Was it changed and not reread, an interface, galelb itself?"
        )
    if any(one.mode == "tc" for one in state.attachments):
        found.append("the balancer runs in TC; this is what the same programs do in XDP")
    return found
