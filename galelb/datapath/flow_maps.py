# SPDX-License-Identifier: Apache-2.0
"""Which maps hold the flows that go on, remembered across restarts and changes of shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from galelb.bpf.layout import MapLayout

if TYPE_CHECKING:
    from galelb.datapath.programs import Generation

__all__ = ["FlowMaps", "flow_maps_of", "remembered", "unremembered", "with_former"]

MAX_FORMER = 4
"""Sets that are remembered: more starts that died before they were through are not followed."""


@attrs.frozen(kw_only=True)
class FlowMaps:
    """The maps of one forwarder that its flows are in, in one generation of programs."""

    forwarder: str
    layout: str
    """What the forwarder said of their layout."""
    maps: Mapping[str, MapLayout]

    @property
    def pins(self) -> frozenset[str]:
        """Names of the pins; the same ones are the same maps."""
        return frozenset(layout.pin.name for layout in self.maps.values())

    def to_saved(self) -> dict[str, Any]:
        """Return what `remembered` reads again; pins by name, since their folder may move."""
        maps = {
            name: attrs.asdict(layout, filter=_not_the_name) | {"pin": layout.pin.name}
            for name, layout in self.maps.items()
        }
        return {"forwarder": self.forwarder, "layout": self.layout, "maps": maps}


def flow_maps_of(generation: Generation) -> list[FlowMaps]:
    """Return the maps with flows of a generation, one item per forwarder that has any."""
    known, request = generation.compiled.maps, generation.request
    return [
        FlowMaps(
            forwarder=name,
            layout=forwarder.flow_layout(
                [s for s in request.services.values() if s.forwarder == name], request.host
            ),
            maps={one: known[one] for one in forwarder.flow_maps if one in known},
        )
        for name, forwarder in sorted(request.forwarders.items())
        if forwarder.flow_maps
    ]


def remembered(saved: Sequence[Mapping[str, Any]], pin_dir: Path) -> list[FlowMaps]:
    """Return what `to_saved` wrote. Raises ValueError for anything else."""
    try:
        return [
            FlowMaps(
                forwarder=str(item["forwarder"]),
                layout=str(item["layout"]),
                maps={
                    str(name): MapLayout(name=str(name), **fields | {"pin": _pin(pin_dir, fields)})
                    for name, fields in item["maps"].items()
                },
            )
            for item in saved
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"flow_maps cannot be read: {error!r}") from None


def with_former(now: Sequence[FlowMaps], former: Sequence[FlowMaps]) -> list[FlowMaps]:
    """Return the sets that may hold flows until programs were switched, the newest first.

    Who dies meanwhile leaves programs of either side attached, so both are remembered.
    """
    kept = list(now)
    for one in former:
        if all((one.forwarder, one.pins) != (other.forwarder, other.pins) for other in kept):
            kept.append(one)
    return kept[: len(now) + MAX_FORMER]


def unremembered(now: Sequence[FlowMaps], pin_dir: Path) -> list[str]:
    """Return forwarders with maps of flows in `pin_dir` that are not those of now."""
    found = [path.name for path in pin_dir.iterdir()]
    return [
        one.forwarder
        for one in now
        if any(name not in one.pins and name.rpartition("-")[0] in one.maps for name in found)
    ]


def _not_the_name(field: attrs.Attribute[Any], _: Any) -> bool:
    return field.name != "name"


def _pin(pin_dir: Path, fields: Mapping[str, Any]) -> Path:
    name = fields["pin"]
    if not isinstance(name, str) or "/" in name:
        raise ValueError(f"{name!r} is no name of a pin")
    return pin_dir / name
