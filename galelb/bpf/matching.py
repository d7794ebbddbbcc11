# SPDX-License-Identifier: Apache-2.0
"""Generates the C that finds a packet's service and hands the packet to the service's forwarder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from socket import htons
from sys import byteorder
from typing import Any

from galelb.bpf.compose import Part
from galelb.forwarder import Forwarder
from galelb.model import IPAddress, Service

__all__ = ["MAX_COMPARES", "dispatch_part", "match_part", "service_keys", "uses_map"]

MAX_COMPARES = 32
"""More services than this are looked up in the hash map gale_service_keys."""

_HEAD = "static __always_inline u32 gale_service_{}(struct gale_packet *p)\n{{"
_LOOKUP = """
static __always_inline u32 gale_service_lookup(struct gale_packet *p, __be16 port)
{
	struct gale_service_key key = { .port = port, .protocol = p->protocol, .vlan = p->vlan };
	u32 *id;

	key.family = p->family;
	__builtin_memcpy(key.addr, p->daddr, 4 * GALE_WORDS);
	id = gale_service_keys.lookup(&key);
	return id ? *id : 0;
}

static __always_inline u32 gale_service_find(struct gale_packet *p)
{
	return p->dport ? gale_service_lookup(p, p->dport) : 0;
}

static __always_inline u32 gale_service_has(struct gale_packet *p)
{
	return gale_service_lookup(p, 0);
}
"""
_DISPATCH = """
static __always_inline int
gale_dispatch(GALE_CTX *ctx, struct gale_packet *p, struct gale_target *t)
{
	int reason = 0;

	t->service = gale_service_get(t->service_id);
	if (!t->service)
		return gale_drop(p, GALE_REASON_INTERNAL, 0);
"""
_STATELESS = """\
	reason = gale_target_select(p, t, p->saddr, ntohs(p->sport));
	if (reason)
		return gale_drop(p, reason, t->service_id);
"""
_ICMP_TO_NODE = """
/* An ICMP error goes to the node that the packet which it quotes came from. */
static __always_inline int
gale_icmp_to_node(GALE_CTX *ctx, struct gale_packet *p, struct gale_quote *quote, u32 service_id)
{
	struct gale_packet *q = &quote->packet;
	struct gale_target target = { .service_id = service_id }, *t = &target;
	int reason;

	t->service = gale_service_get(service_id);
	if (!t->service)
		return GALE_NOT_MINE;
	reason = gale_target_select(p, t, q->daddr, ntohs(q->dport));
	if (reason)
		return gale_drop(p, reason, service_id);
"""


def uses_map(services: Mapping[int, Service]) -> bool:
    """Whether there are too many services for generated compares."""
    return len(services) > MAX_COMPARES


def service_keys(services: Mapping[int, Service]) -> list[tuple[dict[str, Any], int]]:
    """Return what gale_service_keys shall hold; nothing when compares are generated."""
    if not uses_map(services):
        return []
    entries = [(_key(s, htons(s.port)), number) for number, s in services.items()]
    return [*((_key(s, 0), number) for number, s in services.items()), *entries]


def _key(service: Service, port: int) -> dict[str, Any]:
    return {
        "addr": _words(service.vip),
        "port": port,
        "protocol": int(service.protocol),
        "family": service.vip.version,
        "vlan": service.vlan,
        "pad": 0,
    }


def _words(address: IPAddress) -> tuple[int, ...]:
    raw = address.packed.ljust(16, b"\0")
    return tuple(int.from_bytes(raw[at : at + 4], byteorder) for at in range(0, 16, 4))


def match_part(services: Mapping[int, Service]) -> Part:
    """Return the C of gale_service_find and gale_service_has; both return an id or 0."""
    if uses_map(services):
        return Part("generated/match.h", _LOOKUP)
    text = "\n".join([*_compares("find", services), "", *_compares("has", services), ""])
    return Part("generated/match.h", text)


def _compares(name: str, services: Mapping[int, Service]) -> list[str]:
    lines = [_HEAD.format(name)]
    for version in (4, 6):
        mine = {number: s for number, s in services.items() if s.vip.version == version}
        if mine:
            lines.append(f"\tif (p->family == GALE_FAMILY_IPV{version}) {{")
            lines += [_compare(number, s, ports=name == "find") for number, s in mine.items()]
            lines += ["\t\treturn 0;", "\t}"]
    return [*lines, "\treturn 0;", "}"]


def _compare(number: int, service: Service, *, ports: bool) -> str:
    words = _words(service.vip)[: 1 if service.vip.version == 4 else 4]
    tests = [f"p->daddr[{at}] == {word:#x}u" for at, word in enumerate(words)]
    if ports:
        tests.append(f"p->dport == {htons(service.port):#x}")
    tests += [f"p->protocol == {int(service.protocol)}", f"p->vlan == {service.vlan}"]
    return f"\t\tif ({' && '.join(tests)})\n\t\t\treturn {number};"


def dispatch_part(services: Mapping[int, Service], forwarders: Sequence[Forwarder]) -> Part:
    """Return the C of gale_dispatch, gale_returns and gale_icmp for the forwarders in use."""
    text = _dispatch(services, forwarders) + _returns(forwarders) + _icmp(services, forwarders)
    return Part("generated/dispatch.h", text)


def _tests(services: Mapping[int, Service], forwarders: Sequence[Forwarder]) -> list[str]:
    """Return a condition on the service id per forwarder; the last one gets the rest."""
    tests = []
    for forwarder in forwarders[:-1]:
        numbers = sorted(n for n, s in services.items() if s.forwarder == forwarder.name)
        ranges = _ranges(numbers)
        tests.append(" || ".join(f"({low}u <= id && id <= {high}u)" for low, high in ranges))
    return [*tests, "1"] if forwarders else []


def _ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges


def _dispatch(services: Mapping[int, Service], forwarders: Sequence[Forwarder]) -> str:
    text = _DISPATCH
    tests = _tests(services, forwarders)
    if len(tests) > 1:
        text += "\tu32 id = t->service_id;\n"
    for forwarder, test in zip(forwarders, tests, strict=True):
        text += f"\tif ({test}) {{\n" if test != "1" else "\t{\n"
        text += "" if forwarder.stateful else _STATELESS
        text += f"\t(void)reason;\n\treturn {forwarder.name}_forward(ctx, p, t);\n\t}}\n"
    return text + ("" if forwarders else "\treturn gale_drop(p, reason, 0);\n") + "}\n"


def _returns(forwarders: Sequence[Forwarder]) -> str:
    text = "\nstatic __always_inline int gale_returns(GALE_CTX *ctx, struct gale_packet *p)\n{\n"
    text += "\tint verdict = GALE_NOT_MINE;\n\n"
    for forwarder in forwarders:
        if forwarder.claims_returns:
            text += f"\tverdict = {forwarder.name}_return(ctx, p);\n"
            text += "\tif (verdict != GALE_NOT_MINE)\n\t\treturn verdict;\n"
    return text + "\treturn verdict;\n}\n"


def _icmp(services: Mapping[int, Service], forwarders: Sequence[Forwarder]) -> str:
    """An error about a service is its forwarder's; one about no service may be any translator's."""
    simple = [f for f in forwarders if not f.translates_icmp]
    text = _icmp_to_node(services, simple) if simple else ""
    text += "\nstatic __always_inline int gale_icmp(GALE_CTX *ctx, struct gale_packet *p,\n"
    text += "\t\t\t\t     struct gale_quote *quote, u32 id)\n{\n\tint verdict;\n\n"
    for forwarder, test in zip(forwarders, _tests(services, forwarders), strict=True):
        call = f"{forwarder.name}_icmp" if forwarder.translates_icmp else "gale_icmp_to_node"
        text += f"\tif (id && ({test}))\n\t\treturn {call}(ctx, p, quote, id);\n"
    for forwarder in forwarders:
        if forwarder.translates_icmp:
            text += f"\tverdict = {forwarder.name}_icmp(ctx, p, quote, 0);\n"
            text += "\tif (verdict != GALE_NOT_MINE)\n\t\treturn verdict;\n"
    return text + "\treturn GALE_NOT_MINE;\n}\n"


def _icmp_to_node(services: Mapping[int, Service], forwarders: Sequence[Forwarder]) -> str:
    text = _ICMP_TO_NODE
    tests = _tests(services, forwarders)
    if len(tests) > 1:
        text += "\tu32 id = service_id;\n"
    for forwarder, test in zip(forwarders, tests, strict=True):
        text += f"\tif ({test})\n\t\treturn {forwarder.name}_forward(ctx, p, t);\n"
    return text + "\treturn GALE_NOT_MINE;\n}\n"
