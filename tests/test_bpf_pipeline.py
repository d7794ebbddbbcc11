# SPDX-License-Identifier: Apache-2.0
"""What the core says about a forwarder's C before anything compiles it."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from galelb.bpf.pipeline import Limits, Pipeline, pipeline
from galelb.errors import CompileError
from galelb.forwarder import Forwarder, HostView
from galelb.model import Interface, Protocol, Service

PROMISES = {
    "selects_node": "select",
    "claims_returns": "return",
    "translates_icmp": "icmp",
    "wraps": "wrap",
}
WIRE = Interface(name="eth0", ifindex=2, mac="02:00:00:00:00:01", mtu=1500, addresses=())
HOST = HostView(
    private=WIRE,
    public=WIRE,
    ip_local_port_range=(32768, 60999),
    tick_shift=8,
    hz=250,
    flow_seed=1,
)
SERVICE = Service(
    name="web",
    vip=ip_address("192.0.2.1"),
    port=80,
    protocol=Protocol.TCP,
    target_port=80,
    forwarder="mine",
)


def composed(source: Path, **attributes: Any) -> Pipeline:
    kind = type("Mine", (Forwarder,), {"name": "mine", "source": source} | attributes)
    return pipeline(
        services={1: SERVICE}, forwarders=[kind({})], host=HOST, limits=Limits(), table_seed=0
    )


def test_parts_are_named_by_the_plugin_wherever_its_files_lie(tmp_path: Path) -> None:
    (tmp_path / "more.h").write_text("/* more */\n")
    source = tmp_path / "x.bpf.c"
    source.write_text('#include "more.h"\nint mine_forward(void);\n')

    names = [part.name for part in composed(source).parts]

    assert names[names.index("mine/more.h") + 1] == "mine/x.bpf.c"


def test_a_forwarder_without_its_function_is_told_so(tmp_path: Path) -> None:
    source = tmp_path / "x.bpf.c"
    source.write_text("int mine_forwards(void);\n")

    with pytest.raises(CompileError) as caught:
        composed(source)

    assert str(caught.value).startswith("plugin mine: x.bpf.c defines no mine_forward()")


@pytest.mark.parametrize(("attribute", "function"), PROMISES.items())
def test_what_the_class_promises_must_be_in_the_c(tmp_path, attribute, function) -> None:
    source = tmp_path / "x.bpf.c"
    source.write_text("int mine_forward(void);\n")

    with pytest.raises(CompileError, match=rf"no mine_{function}\(\) \({attribute} is true\)"):
        composed(source, **{attribute: True})

    source.write_text(f"int mine_forward(void);\nint mine_{function}(void);\n")
    assert composed(source, **{attribute: True}).parts


def test_a_file_that_is_not_there_is_named_with_the_plugin(tmp_path: Path) -> None:
    source = tmp_path / "x.bpf.c"
    source.write_text('#include "absent.h"\nint mine_forward(void);\n')

    with pytest.raises(CompileError, match=r"^plugin mine: /.*/absent\.h: No such file"):
        composed(source)
