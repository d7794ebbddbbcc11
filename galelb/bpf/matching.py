# SPDX-License-Identifier: Apache-2.0
"""Generates the C that finds a packet's service and hands the packet to the service's forwarder."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from galelb.bpf.compose import Part
from galelb.forwarder import Forwarder
from galelb.model import Service
from galelb.packing import address_words, network_port

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
_FRONT_LOOKUP = """
static __always_inline int gale_front_get(u32 id, struct gale_front *front)
{
	struct gale_service *service = gale_service_get(id);

	if (!service || !service->protocol)
		return 0;
	__builtin_memcpy(front->addr, service->addr, 4 * GALE_WORDS);
	front->port = service->port;
	front->vlan = service->vlan;
	return 1;
}
"""
_FRONT_SWITCH = """
static __always_inline int gale_front_get(u32 id, struct gale_front *front)
{
	switch (id) {
"""
_DISPATCH = """
static __always_inline int
gale_dispatch(GALE_CTX *ctx, struct gale_packet *p, struct gale_way *way)
{
	struct gale_target target = {}, *t = &target;
	u32 id = way->service;
	int reason = 0;

	way->reason = GALE_REASON_FORWARDED;
"""
_SELECT = """\
	t->service = gale_service_get(id);
	if (!t->service)
		return gale_refuse(way, GALE_REASON_INTERNAL);
	reason = {}(p, t, {});
	if (reason)
		return gale_refuse(way, reason);
	way->node = t->node_index;
"""
_SENDER = "p->saddr, ntohs(p->sport)"
_QUOTED = "q->packet.daddr, ntohs(q->packet.dport)"
_ICMP_TO_NODE = """
/* An ICMP error goes to the node that the packet which it quotes came from. */
static __always_inline int
gale_icmp_to_node(GALE_CTX *ctx, struct gale_packet *p, struct gale_quote *q, struct gale_way *way)
{
	struct gale_target target = {}, *t = &target;
	u32 id = way->service;
	int reason;

"""
_SLOW_HEAD = """
/* The same, but a forwarder's slow program is as good. */
static __always_inline int
{}(GALE_CTX *ctx, struct gale_packet *p, struct gale_way *way)
{{
"""


def uses_map(services: Mapping[int, Service]) -> bool:
    """Whether there are too many services for generated compares."""
    return len(services) > MAX_COMPARES


def service_keys(services: Mapping[int, Service]) -> list[tuple[dict[str, Any], int]]:
    """Return what gale_service_keys shall hold; nothing when compares are generated."""
    if not uses_map(services):
        return []
    entries = [(_key(s, network_port(s.port)), number) for number, s in services.items()]
    return [*((_key(s, 0), number) for number, s in services.items()), *entries]


def _key(service: Service, port: int) -> dict[str, Any]:
    return {
        "addr": address_words(service.vip),
        "port": port,
        "protocol": int(service.protocol),
        "family": service.vip.version,
        "vlan": service.vlan,
        "pad": 0,
    }


def match_part(services: Mapping[int, Service]) -> Part:
    """Return the C of gale_service_find and gale_service_has; both return an id or 0.

    And of gale_front_get, which goes the other way: 0 for an id that no service has.
    """
    if uses_map(services):
        return Part("generated/match.h", _LOOKUP + _FRONT_LOOKUP)
    lines = [*_compares("find", services), "", *_compares("has", services), ""]
    return Part("generated/match.h", "\n".join(lines) + _fronts(services))


def _compares(name: str, services: Mapping[int, Service]) -> list[str]:
    lines = [_HEAD.format(name)]
    for version in (4, 6):
        mine = {number: s for number, s in services.items() if s.vip.version == version}
        if mine:
            lines.append(f"\tif (p->family == GALE_FAMILY_IPV{version}) {{")
            lines += [_compare(number, s, ports=name == "find") for number, s in mine.items()]
            lines += ["\t\treturn 0;", "\t}"]
    return [*lines, "\treturn 0;", "}"]


def _fronts(services: Mapping[int, Service]) -> str:
    """Constants of the branch: what a map says would have to be waited for."""
    text = _FRONT_SWITCH
    for number, service in services.items():
        words = address_words(service.vip)
        text += f"\tcase {number}:\n"
        for at in range(1 if service.vip.version == 4 else 4):
            text += f"\t\tfront->addr[{at}] = {words[at]:#x}u;\n"
        text += f"\t\tfront->port = {network_port(service.port):#x};\n"
        text += f"\t\tfront->vlan = {service.vlan};\n\t\treturn 1;\n"
    return text + "\t}\n\treturn 0;\n}\n"


def _compare(number: int, service: Service, *, ports: bool) -> str:
    words = address_words(service.vip)[: 1 if service.vip.version == 4 else 4]
    tests = [f"p->daddr[{at}] == {word:#x}u" for at, word in enumerate(words)]
    if ports:
        tests.append(f"p->dport == {network_port(service.port):#x}")
    tests += [f"p->protocol == {int(service.protocol)}", f"p->vlan == {service.vlan}"]
    return f"\t\tif ({' && '.join(tests)})\n\t\t\treturn {number};"


def dispatch_part(
    services: Mapping[int, Service], forwarders: Sequence[Forwarder], programs: Collection[str]
) -> Part:
    """Return the C that hands packets to the forwarders in use.

    It defines gale_dispatch, gale_returns, gale_icmp, variants for packets that are slow already,
    and gale_wrap where a forwarder wraps packets. `programs` are the programs of slow work that
    the forwarders define.
    """
    texts = [
        _dispatch(services, forwarders),
        _dispatch_slow(services, forwarders, programs),
        _returns(forwarders),
        _returns_slow(forwarders, programs),
        _icmp(services, forwarders),
        _wrap(services, forwarders),
    ]
    return Part("generated/dispatch.h", "".join(texts))


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


def _select(forwarder: Forwarder, client: str) -> str:
    """Return C that finds the node of a client, given as an address and a port."""
    chosen = f"{forwarder.name}_select" if forwarder.selects_node else "gale_target_select"
    return _SELECT.format(chosen, client)


def _dispatch(services: Mapping[int, Service], forwarders: Sequence[Forwarder]) -> str:
    text = _DISPATCH
    for forwarder, test in zip(forwarders, _tests(services, forwarders), strict=True):
        text += f"\tif ({test}) {{\n" + ("" if forwarder.stateful else _select(forwarder, _SENDER))
        text += f"\treturn {forwarder.name}_forward(ctx, p, t, way);\n\t}}\n"
    return text + "\t(void)id;\n\treturn gale_refuse(way, reason);\n}\n"


def _dispatch_slow(
    services: Mapping[int, Service], forwarders: Sequence[Forwarder], programs: Collection[str]
) -> str:
    text = _SLOW_HEAD.format("gale_dispatch_slow") + "\tu32 id = way->service;\n\n\t(void)id;\n"
    for forwarder, test in zip(forwarders, _tests(services, forwarders), strict=True):
        program = f"{forwarder.name}_forward_slow"
        if program in programs:
            text += f"\tif ({test})\n\t\treturn gale_later(way, GALE_SLOW_{program.upper()});\n"
    return text + "\treturn gale_dispatch(ctx, p, way);\n}\n"


def _returns(forwarders: Sequence[Forwarder]) -> str:
    text = "\nstatic __always_inline int\n"
    text += "gale_returns(GALE_CTX *ctx, struct gale_packet *p, struct gale_way *way)\n{\n"
    text += "\tint decided = GALE_NOT_MINE;\n\n"
    for forwarder in forwarders:
        if forwarder.claims_returns:
            text += f"\tdecided = {forwarder.name}_return(ctx, p, way);\n"
            text += "\tif (decided != GALE_NOT_MINE)\n\t\treturn decided;\n"
    return text + "\treturn decided;\n}\n"


def _returns_slow(forwarders: Sequence[Forwarder], programs: Collection[str]) -> str:
    text = _SLOW_HEAD.format("gale_returns_slow")
    claiming = [f"{f.name}_return_slow" for f in forwarders if f.claims_returns]
    if len(claiming) == 1 and claiming[0] in programs:
        return text + f"\treturn gale_later(way, GALE_SLOW_{claiming[0].upper()});\n}}\n"
    return text + "\treturn gale_returns(ctx, p, way);\n}\n"


def _icmp(services: Mapping[int, Service], forwarders: Sequence[Forwarder]) -> str:
    """An error about a service is its forwarder's; one about no service may be any translator's."""
    simple = [f for f in forwarders if not f.translates_icmp]
    text = _icmp_to_node(services, simple) if simple else ""
    text += "\nstatic __always_inline int\n"
    text += "gale_icmp(GALE_CTX *ctx, struct gale_packet *p, struct gale_quote *q,\n"
    text += "\t  struct gale_rewrite *inner, struct gale_way *way)\n{\n"
    text += "\tint decided = GALE_NOT_MINE;\n\tu32 id = way->service;\n\n"
    for forwarder, test in zip(forwarders, _tests(services, forwarders), strict=True):
        call = "gale_icmp_to_node(ctx, p, q, way)"
        if forwarder.translates_icmp:
            call = f"{forwarder.name}_icmp(ctx, p, q, inner, way)"
        text += f"\tif (id && ({test}))\n\t\treturn {call};\n"
    for forwarder in forwarders:
        if forwarder.translates_icmp:
            text += f"\tdecided = {forwarder.name}_icmp(ctx, p, q, inner, way);\n"
            text += "\tif (decided != GALE_NOT_MINE)\n\t\treturn decided;\n"
    return text + "\treturn decided;\n}\n"


def _icmp_to_node(services: Mapping[int, Service], forwarders: Sequence[Forwarder]) -> str:
    text = _ICMP_TO_NODE
    for forwarder, test in zip(forwarders, _tests(services, forwarders), strict=True):
        text += f"\tif ({test}) {{\n" + _select(forwarder, _QUOTED)
        text += f"\treturn {forwarder.name}_forward(ctx, p, t, way);\n\t}}\n"
    return text + "\t(void)id;\n\treturn GALE_NOT_MINE;\n}\n"


def _wrap(services: Mapping[int, Service], forwarders: Sequence[Forwarder]) -> str:
    if not any(forwarder.wraps for forwarder in forwarders):
        return ""
    text = "\nstatic __always_inline int\n"
    text += "gale_wrap(GALE_CTX *ctx, struct gale_packet *p, struct gale_way *way)\n{\n"
    text += "\tu32 id = way->service;\n\n\t(void)id;\n"
    for forwarder, test in zip(forwarders, _tests(services, forwarders), strict=True):
        call = f"{forwarder.name}_wrap(ctx, p, way)" if forwarder.wraps else "-1"
        text += f"\tif ({test})\n\t\treturn {call};\n"
    return text + "\treturn -1;\n}\n"
