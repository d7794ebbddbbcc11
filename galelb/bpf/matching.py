# SPDX-License-Identifier: Apache-2.0
"""Generates the C that finds a packet's service and hands it to the service's forwarder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from socket import htons
from sys import byteorder

from galelb.bpf.compose import Part
from galelb.forwarder import Forwarder
from galelb.model import IPAddress, Service

__all__ = ["MAX_COMPARES", "address_words", "dispatch_part", "match_part"]

MAX_COMPARES = 32
"""More services than this are looked up in a hash map."""


def address_words(address: IPAddress) -> tuple[int, int, int, int]:
    """Return an address as the four words of the C structs; IPv4 is the first one."""
    raw = address.packed.ljust(16, b"\0")
    first, second, third, fourth = (
        int.from_bytes(raw[at : at + 4], byteorder) for at in range(0, 16, 4)
    )
    return first, second, third, fourth


def match_part(services: Mapping[int, Service]) -> Part:
    """Return the C of gale_service_find."""
    lines = ["static __always_inline u32 gale_service_find(struct gale_packet *p)", "{"]
    for version in (4, 6):
        mine = {number: s for number, s in services.items() if s.vip.version == version}
        if mine:
            lines.append(f"\tif (p->family == GALE_FAMILY_IPV{version}) {{")
            lines += [_compare(number, service) for number, service in mine.items()]
            lines += ["\t\treturn 0;", "\t}"]
    lines += ["\treturn 0;", "}", ""]
    return Part("generated/match.h", "\n".join(lines))


def _compare(number: int, service: Service) -> str:
    words = address_words(service.vip)[: 1 if service.vip.version == 4 else 4]
    tests = [f"p->daddr[{at}] == {word:#x}u" for at, word in enumerate(words)]
    tests += [
        f"p->dport == {htons(service.port):#x}",
        f"p->protocol == {int(service.protocol)}",
        f"p->vlan == {service.vlan}",
    ]
    return f"\t\tif ({' && '.join(tests)})\n\t\t\treturn {number};"


def dispatch_part(services: Mapping[int, Service], forwarders: Sequence[Forwarder]) -> Part:
    """Return the C of gale_dispatch and gale_returns."""
    (only,) = forwarders
    text = f"""
static __always_inline int gale_dispatch(GALE_CTX *ctx, struct gale_packet *p,
					 struct gale_target *t)
{{
	t->service = gale_service_get(t->service_id);
	if (!t->service)
		return gale_drop(p, GALE_REASON_INTERNAL, 0);
	return {only.name}_forward(ctx, p, t);
}}

static __always_inline int gale_returns(GALE_CTX *ctx, struct gale_packet *p)
{{
	return {only.name}_return(ctx, p);
}}
"""
    return Part("generated/dispatch.h", text)
