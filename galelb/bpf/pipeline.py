# SPDX-License-Identifier: Apache-2.0
"""Decides what a composition is made of: the shared C, the forwarders' C, generated matching."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Literal

import attrs

from galelb import abi
from galelb.bpf.compose import Part
from galelb.bpf.matching import dispatch_part, match_part, uses_map
from galelb.errors import CompileError
from galelb.forwarder import Forwarder, HostView
from galelb.model import Service

__all__ = ["OWN_MACS", "Limits", "Pipeline", "pipeline"]

OWN_MACS = 256
"""Elements of gale_own_macs; of two interfaces with one place the second is not looked at."""

Context = Literal["xdp", "tc"]

_CONTEXT = {"xdp": "ctx_xdp.h", "tc": "ctx_skb.h"}
_REWRITE = {"xdp": "rewrite_xdp.h", "tc": "rewrite_skb.h"}
_INCLUDE = re.compile(r'^#include "([\w.]+)"$', re.MULTILINE)
_PROGRAM = re.compile(r"^int GALE_FN\((\w+)\)\(GALE_CTX \*ctx\)", re.MULTILINE)
_SLOW = (
    "general",
    "icmp",
    "fragment",
    "reply",
    "extensions",
    "parsed",
)  # GALE_SLOW_*, bpf/consts.h


_PROMISES = {
    "claims_returns": "return",
    "selects_node": "select",
    "translates_icmp": "icmp",
    "wraps": "wrap",
}
"""What else the C defines, by the attribute of the class that says so."""
_AFTER = ("plugin.h",)
_PROGRAMS = ("entry.h", "icmp.h", "fragment.h", "reply.h")
_TRACE: dict[str, int | str] = {"GALE_TRACE": 1, "GALE_ICMP_RATE": 1 << 20, "GALE_EVENT_RATE": 0}
"""A trace notes steps, is never out of answers, and tells the control plane nothing."""


@attrs.frozen(kw_only=True)
class Limits:
    """Sizes of the core's maps; changing one makes a new map."""

    max_services: int = 256
    max_nodes: int = 1024
    max_next_hops: int = 4096
    max_slots: int = 1 << 20
    """Elements of gale_slots, four slots each."""
    event_bytes: int = 1 << 16
    table_size: int = 65537
    """Slots of one lookup table."""


@attrs.frozen(kw_only=True)
class Pipeline:
    """What to compose and load for one context.

    `tail_calls`: after loading, the program array `tail_array` gets each function at its index.
    """

    parts: list[Part]
    defines: dict[str, int | str]
    functions: dict[str, Context]
    tail_array: str
    tail_calls: dict[int, str]
    layouts: dict[str, str] = attrs.Factory(dict)
    """What entries of maps with flows are read by, beside the map's own shape."""


def pipeline(
    *,
    services: Mapping[int, Service],
    forwarders: Sequence[Forwarder],
    host: HostView,
    limits: Limits,
    table_seed: int,
    context: Context = "xdp",
    trace: bool = False,
) -> Pipeline:
    """Return the composition for these services by id and the forwarders in use.

    With `trace` the programs note the steps of each packet in the map gale_trace, and there are
    no helper programs. Raises CompileError when a forwarder's C cannot be read.
    """
    used = [f for f in forwarders if any(s.forwarder == f.name for s in services.values())]
    own = [part for forwarder in used for part in _sources(forwarder)]
    slow = [*_SLOW, *(name for part in own for name in _PROGRAM.findall(part.text))]
    no_helpers = trace or context != "xdp"
    helpers = [] if no_helpers else [name for f in used for name in f.helper_programs]
    entries = ["entry", "egress"] if context == "tc" else ["entry"]
    tails = {index: f"gale_{context}_{name}" for index, name in enumerate(slow)}
    names = [*(f"gale_{context}_{name}" for name in entries), *tails.values(), *helpers]
    numbers: dict[str, int | str] = {
        f"GALE_SLOW_{name.upper()}": index for index, name in enumerate(slow)
    }
    return Pipeline(
        parts=[
            *(_shared(name) for name in _before(context)),
            match_part(services),
            *(_shared(name) for name in _AFTER),
            *own,
            dispatch_part(services, used, slow),
            *(_shared(name) for name in _PROGRAMS),
        ],
        defines=_defines(services, used, host, limits, table_seed, context)
        | numbers
        | (_TRACE if trace else {}),
        functions=dict.fromkeys(names, context),
        tail_array=f"gale_slow_{context}",
        tail_calls=tails,
        layouts=_layouts(services, used, host),
    )


def _before(context: Context) -> list[str]:
    head = ["consts.h", "packet.h", "types.h", "wire.h", "trace.h", _CONTEXT[context], "maps.h"]
    middle = [
        "csum.h",
        "parse.h",
        "plain.h",
        "capture.h",
        "own.h",
        "stats.h",
        "select.h",
        "next_hop.h",
        "rewrite.h",
    ]
    return [*head, *middle, _REWRITE[context], "way.h", "send.h", "quote.h"]


def _shared(name: str) -> Part:
    return Part(f"bpf/{name}", files("galelb_bpf").joinpath(name).read_text())


def _sources(forwarder: Forwarder) -> list[Part]:
    """Return a forwarder's C after the files beside it that it includes, each once."""
    source, name = forwarder.source, forwarder.name
    try:
        text = source.read_text()
        included = [
            Part(f"{name}/{file}", (source.parent / file).read_text())
            for file in _INCLUDE.findall(text)
        ]
    except OSError as error:
        raise CompileError(f"plugin {name}: {error.filename}: {error.strerror}") from None
    parts = [*included, Part(f"{name}/{source.name}", _INCLUDE.sub("", text))]
    _check_functions(forwarder, "".join(part.text for part in parts))
    return parts


def _check_functions(forwarder: Forwarder, text: str) -> None:
    """The functions that the class promises are called from generated code, which nobody reads."""
    promised = {
        "forward": "every forwarder has it",
        **{f: f"{a} is true" for a, f in _PROMISES.items() if getattr(forwarder, a)},
    }
    for function, reason in promised.items():
        if not re.search(rf"\b{forwarder.name}_{function}\s*\(", text):
            raise CompileError(
                f"plugin {forwarder.name}: {forwarder.source.name} defines no"
                f" {forwarder.name}_{function}() ({reason}); bpf/plugin.h says what it is handed"
            )


def _defines(
    services: Mapping[int, Service],
    forwarders: Sequence[Forwarder],
    host: HostView,
    limits: Limits,
    table_seed: int,
    context: Context,
) -> dict[str, int | str]:
    numbers: dict[str, int | str] = dict(abi.defines())
    numbers |= {
        "GALE_MAX_SERVICES": limits.max_services,
        "GALE_MAX_NODES": limits.max_nodes,
        "GALE_MAX_NEXT_HOPS": limits.max_next_hops,
        "GALE_MAX_SLOTS": limits.max_slots,
        "GALE_EVENT_BYTES": limits.event_bytes,
        "GALE_TABLE_SIZE": limits.table_size,
        "GALE_TABLE_SEED": f"{table_seed}ULL",
        "GALE_FLOW_SEED": f"{host.flow_seed}ULL",
        "GALE_TICK_SHIFT": host.tick_shift,
        "GALE_HZ": host.hz,
    }
    if any(service.vip.version == 6 for service in services.values()):
        numbers["GALE_IPV6"] = 1
    if uses_map(services):
        numbers["GALE_SERVICE_MAP"] = 1
    if "veth" in (host.private.kind, host.public.kind):
        numbers["GALE_VETH"] = 1
    if host.grouped:
        numbers["GALE_OWN_MACS"] = OWN_MACS
    if context == "tc":
        numbers["GALE_TC"] = 1
    if any(forwarder.wraps for forwarder in forwarders):
        numbers["GALE_WRAP"] = 1
    for forwarder in forwarders:
        mine = [s for s in services.values() if s.forwarder == forwarder.name]
        numbers |= forwarder.defines(mine, host)
    return numbers


def _layouts(
    services: Mapping[int, Service], forwarders: Sequence[Forwarder], host: HostView
) -> dict[str, str]:
    # Where an entry lies depends on the seed, what its age means on the ticks.
    common = f"{host.flow_seed} {host.tick_shift} {host.hz}"
    layouts: dict[str, str] = {}
    for forwarder in (one for one in forwarders if one.flow_maps):
        mine = [s for s in services.values() if s.forwarder == forwarder.name]
        text = f"{common} {forwarder.flow_layout(mine, host)}"
        layouts |= dict.fromkeys(forwarder.flow_maps, text)
    return layouts
