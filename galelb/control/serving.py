# SPDX-License-Identifier: Apache-2.0
"""Whether the balancer forwards what it is there for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from galelb.api.view import InterfaceStatus
    from galelb.control.controller import Controller

__all__ = ["not_ready", "serving"]


def not_ready(controller: Controller, interfaces: Iterable[InterfaceStatus]) -> str:
    """Return why the balancer cannot serve clients now, or "" when it can."""
    if detached := [one.name for one in interfaces if one.mode is None]:
        return f"not attached to {', '.join(detached)}"
    without = [name for name, good in _with_nodes(controller).items() if not good]
    return f"no routable node for {', '.join(without)}" if without else ""


def serving(controller: Controller, interfaces: Iterable[InterfaceStatus]) -> dict[str, bool]:
    """Return whether each service by name is served; "" = the balancer as a whole.

    A service without a node that takes new flows is not, and none is while a program is missing.
    """
    interfaces = tuple(interfaces)
    attached = all(one.mode is not None for one in interfaces)
    found = {name: attached and good for name, good in _with_nodes(controller).items()}
    return {"": not not_ready(controller, interfaces), **found}


def _with_nodes(controller: Controller) -> Mapping[str, bool]:
    return {
        service.name: controller.tables.table(number) is not None
        for number, service in controller.served.services.items()
    }
