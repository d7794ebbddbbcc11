# SPDX-License-Identifier: Apache-2.0
"""What tracing costs those who do not trace: nothing."""

import re
from ipaddress import ip_address

import attrs
import pytest

from galelb.bpf.compile import Unit, compile_units
from galelb.bpf.compose import compose
from galelb.bpf.helper import Helper
from galelb.bpf.pipeline import Limits, pipeline
from galelb.datapath.sandbox import Sandbox
from galelb.model import Protocol, Service
from galelb.plugins import Plugins
from galelb.testing.world import build_world

pytestmark = pytest.mark.bpf

_CALL = re.compile(r"^\s*gale_trace_\w+\(.*\);$", re.MULTILINE)
VIPS = ("203.0.113.10", "2001:db8:1::10")


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as one:
        yield one


@pytest.fixture(scope="module")
def world(sandbox):
    return build_world(sandbox)


def made(world, name, *, trace=False):
    """Return the pipeline of one forwarder with a service of each kind."""
    kinds = [(vip, protocol) for vip in VIPS for protocol in Protocol]
    services = {
        number: Service(
            name=f"s{number}",
            vip=ip_address(vip),
            port=80,
            protocol=protocol,
            target_port=80,
            forwarder=name,
        )
        for number, (vip, protocol) in enumerate(kinds, 1)
    }
    forwarder = Plugins.discover(environ={}).forwarder(name)
    return pipeline(
        services=services,
        forwarders=[forwarder(forwarder.Options())],
        host=world.host,
        limits=Limits(max_services=16, max_nodes=64, max_next_hops=128, max_slots=4096),
        table_seed=0,
        trace=trace,
    )


def tags(sandbox, one, salt):
    """Return the kernel's digests of the programs' instructions, by name."""
    composition = compose(one.parts, one.defines, sandbox.pins, salt)
    compiled = compile_units([Unit(composition, one.functions)], sandbox.pins)
    return {name: program.tag for name, program in compiled.programs.items()}


def code(sandbox, one):
    """Return the programs' instructions, compiled in one go: in shares they come out otherwise."""
    text = compose(one.parts, one.defines, sandbox.pins).text
    programs = Helper().compile(text, one.functions)["programs"]
    return {name: program["code"] for name, program in programs.items()}


@pytest.mark.parametrize("name", ["l4_nat", "l3_route"])
def test_programs_are_those_of_a_text_that_never_heard_of_traces(sandbox, world, name):
    plain = made(world, name)
    without = [
        attrs.evolve(
            part, text=part.text if part.name == "bpf/trace.h" else _CALL.sub("", part.text)
        )
        for part in plain.parts
    ]
    calls = sum(len(_CALL.findall(part.text)) for part in plain.parts)

    assert calls > 10
    assert "gale_trace" not in compose(plain.parts, plain.defines, sandbox.pins).maps
    ours, theirs = code(sandbox, plain), code(sandbox, attrs.evolve(plain, parts=without))
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_programs_for_a_trace_are_others(sandbox, world):
    traced, plain = made(world, "l3_route", trace=True), made(world, "l3_route")

    assert "gale_trace" in compose(traced.parts, traced.defines, sandbox.pins).maps
    ours, theirs = tags(sandbox, traced, "c"), tags(sandbox, plain, "b")
    assert ours.keys() == theirs.keys()
    assert ours["gale_xdp_entry"] != theirs["gale_xdp_entry"]
