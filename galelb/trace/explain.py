# SPDX-License-Identifier: Apache-2.0
"""A trace as text for people: what came, each step of the program, and what left."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click

from galelb.abi import Reason
from galelb.capture.summary import summarise
from galelb.commands.text import BAD, FAINT, GOOD, WARN, endpoint
from galelb.model import Service
from galelb.trace.describe import difference
from galelb.trace.layers import Layer, layers
from galelb.trace.values import Place, Step, Trace

__all__ = ["explain"]

Lines = Iterator[tuple[str, str]]
"""Names of steps and what is said of them."""

_WIDTH = 10
_SOME = 3
_VERDICTS = {"XDP_PASS": FAINT, "XDP_DROP": BAD, "XDP_ABORTED": BAD}
_QUIET = {"checksum"}
_LOOKED = {"service", "quoted", "program"}
_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6"}
_REPLIES = {
    "time_exceeded": "ICMP time exceeded to the sender",
    "too_big": "ICMP to the sender that at most {mtu} bytes fit",
    "reset": "a TCP RST to the sender",
}


def explain(trace: Trace, place: Place) -> str:
    """Return the lines about one packet."""
    time = datetime.datetime.fromtimestamp(trace.time_ns // 1_000_000_000).astimezone()
    clock = f"{time:%H:%M:%S}.{trace.time_ns // 1000 % 1_000_000:06}"
    head = click.style(f"#{trace.number}  {clock}  {_frame(trace.frame)}", bold=True)
    lines = [head, *(_line(name, text) for name, text in _steps(trace, place))]
    return "\n".join(lines)


def _frame(frame: bytes) -> str:
    return f"{summarise(frame)}, {len(frame)} bytes"


def _line(name: str, text: str) -> str:
    return f"    {click.style(f'{name:<{_WIDTH}}', fg='cyan')} {text}".rstrip()


def _steps(trace: Trace, place: Place) -> Lines:
    yield "arrived", f"on {trace.in_interface}{_role(trace.in_interface, place)}"
    for note in trace.notes:
        yield "note", click.style(note, fg=WARN)
    if trace.problem:
        yield "not run", click.style(trace.problem, fg=WARN)
        return
    last: Step | None = None
    for step in trace.steps:
        if step.name != "flow" or step != last:  # slow programs find it once more
            yield from _step(step.name, step.facts, trace, place)
        last = step if step.name == "flow" else last
    if trace.reason is Reason.PASS_FOREIGN and not _LOOKED & {step.name for step in trace.steps}:
        yield "service", "none: only TCP and UDP have any, and ICMP errors about those"
    yield from _result(trace)


def _role(name: str, place: Place) -> str:
    if place.public.name == place.private.name:
        return ""
    roles = {place.public.name: " (public)", place.private.name: " (private)"}
    return roles.get(name, "")


def _step(name: str, facts: Mapping[str, Any], trace: Trace, place: Place) -> Lines:
    if name == "flow" and trace.step("flow_made") is not None:
        return  # the step before told its port
    if name in _TEXTS:
        title, text = _TEXTS[name]
        yield title, text(facts)
    elif name == "service":
        yield "service", _service(facts["service"], trace, place)
    elif name == "quoted":
        yield "quoted", _quoted(facts["service"], trace.frame)


def _parsed(facts: Mapping[str, Any]) -> str:
    if not facts["readable"]:
        return "no: not IPv4 or IPv6 with whole headers of the lengths that they claim"
    if "src" not in facts:
        return "IPv6 with extension headers, to be walked"
    ends = [facts["src"], facts["dst"]]
    if facts["sport"] or facts["dport"]:
        ends = [endpoint(facts["src"], facts["sport"]), endpoint(facts["dst"], facts["dport"])]
    what = _PROTOCOLS.get(facts["protocol"], f"protocol {facts['protocol']}")
    extra = [f"{facts['tags']} tags"] if facts["tags"] > 1 else []
    extra += [f"vlan {facts['vlan']}"] if facts["vlan"] else []
    extra += [f"{facts['fragment']} fragment"] if facts["fragment"] else []
    extra += ["an ICMP error"] if facts["icmp_error"] else []
    packet = f"IPv{facts['family']} {what} {ends[0]} > {ends[1]}, ttl {facts['ttl']}"
    return ", ".join([packet, *extra])


def _service(name: str | None, trace: Trace, place: Place) -> str:
    if name is None:
        return f"none: {_why_none(trace, place)}"
    service = next((one for one in place.services.values() if one.name == name), None)
    return f"{name}, {_describe(service)}, by {service.forwarder}" if service else name


def _describe(service: Service) -> str:
    vlan = f" in vlan {service.vlan}" if service.vlan else ""
    return f"{endpoint(str(service.vip), service.port, service.protocol.name.lower())}{vlan}"


def _why_none(trace: Trace, place: Place) -> str:
    """Return what the services of that address have that the packet has not."""
    parsed = trace.step("parsed") or {}
    same = [one for one in place.services.values() if str(one.vip) == parsed.get("dst")]
    if not same:
        return f"{parsed.get('dst')} is no VIP"
    untagged = " (untagged)" if parsed.get("tags") else ""
    more = f" and {len(same) - _SOME} more" if len(same) > _SOME else ""
    return f"that VIP has {', '.join(_describe(one) for one in same[:_SOME])}{more}{untagged}"


def _quoted(name: str | None, frame: bytes) -> str:
    found = layers(frame)
    quotes = [one.name in ("icmp", "icmp6") for one in found]
    inside = found[quotes.index(True) + 1 :] if True in quotes else []
    ends = _ends(inside[0], inside[1]) if len(inside) > 1 else ""
    return f"{ends}, a packet of {f'the service {name}' if name else 'no service'}"


def _ends(ip: Layer, upper: Layer) -> str:
    ports = [upper.fields.get(port) for port in ("sport", "dport")]
    ends = [
        endpoint(ip.fields[side], port) if port is not None else ip.fields[side]
        for side, port in zip(("src", "dst"), ports, strict=True)
    ]
    return " > ".join(ends)


def _slot(facts: Mapping[str, Any]) -> str:
    text = f"hash {facts['hash']:#010x}"
    if facts["slot"] is None:
        return f"{text}, but the service has no routable node"
    return f"{text}, slot {facts['slot']} of {facts['slots']}: node {facts['node'] or 'none'}"


def _hop(facts: Mapping[str, Any]) -> str:
    ends = f"{facts['src_mac']} > {facts['dst_mac']}"
    return f"out of {facts['interface']}, {ends}, mtu {facts['mtu']}"


def _reply(facts: Mapping[str, Any]) -> str:
    return _REPLIES.get(facts["kind"], str(facts["kind"])).format(**facts)


_TEXTS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "parsed": ("parsed", _parsed),
    "program": ("tail call", lambda facts: str(facts["program"])),
    "slot": ("chosen", _slot),
    "flow": ("flow", lambda facts: f"known, the node sees port {facts['port']}"),
    "flow_made": ("flow", lambda facts: f"new, the node sees port {facts['port']}"),
    "next_hop": ("next hop", _hop),
    "reply": ("answer", _reply),
}
"""Steps that need no more than their own facts: a title and what is said."""


def _result(trace: Trace) -> Lines:
    if trace.out is not None and trace.same_packet:
        yield from _rewritten(trace, trace.out)
    elif trace.out is not None:
        yield "sent", _frame(trace.out)
    style = _VERDICTS.get(trace.verdict or "", GOOD)
    out = f" out of {trace.out_interface}" if trace.out_interface else ""
    verdict = click.style(f"{trace.verdict}{out}", fg=None if style == FAINT else style, bold=True)
    yield "verdict", f"{verdict}: {_reason(trace)}"


def _reason(trace: Trace) -> str:
    if trace.reason is None:
        return "the program gave no reason"
    node = f" {trace.node}" if trace.node and trace.reason is Reason.FORWARDED else ""
    return f"{trace.reason.name.lower()} - {trace.reason.meaning}{node}"


def _rewritten(trace: Trace, after: bytes) -> Lines:
    found = difference(trace.frame, after)
    hop = trace.hop
    told = {("eth", "dst", hop.dst_mac), ("eth", "src", hop.src_mac)} if hop else set()
    for layer in found.removed:
        yield "removed", _layer(layer)
    for layer in found.added:
        yield "added", _layer(layer)
    by_layer: dict[str, list[str]] = {}
    for change in found.changes:
        if change.field not in _QUIET and (change.layer, change.field, change.after) not in told:
            text = f"{change.field} {change.before} -> {change.after}"
            by_layer.setdefault(change.layer, []).append(text)
    if not by_layer and not found.added and not found.removed:
        yield "changed", "only the MAC addresses"
    for layer_name, texts in by_layer.items():
        yield "changed", f"{layer_name}: {', '.join(texts)}"


def _layer(layer: Layer) -> str:
    shown = {k: v for k, v in layer.fields.items() if k not in _QUIET}
    return f"{layer.name}: {', '.join(f'{name} {value}' for name, value in shown.items())}"
