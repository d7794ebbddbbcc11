# SPDX-License-Identifier: Apache-2.0
"""The contract from outside: somebody's forwarder in a folder of its own, good and broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.bpf

TIMEOUT_S = 250
FORWARD = """\
static __always_inline int
mine_forward(GALE_CTX *ctx, struct gale_packet *p, struct gale_target *t, struct gale_way *way)
{
	int what = gale_direct(ctx, p, t, way);

	if (!gale_node_hop(t->node))
		return %(no_hop)s;
	way->rw.ttl = %(ttl)d;
	return what;
}
"""
TESTS = """\
from pathlib import Path

from galelb.forwarder import Forwarder
from galelb.testing.contract import ForwarderContract
from galelb.testing.model import ForwarderModel, Packet


class Mine(Forwarder):
    name = "mine"
    source = Path(__file__).with_name("mine.bpf.c")


class MyModel(ForwarderModel):
    def rewritten(self, packet: Packet) -> bytes:
        return packet.arrived.ip


class TestMine(ForwarderContract):
    forwarder = Mine
    model = MyModel
"""
GOOD = {"no_hop": "gale_refuse(way, GALE_REASON_NO_NEIGHBOUR)", "ttl": 0}


def run(folder: Path, chosen: str, **changes: object) -> str:
    """Run chosen tests of the contract as an author would; returns what pytest said."""
    (folder / "mine.bpf.c").write_text(FORWARD % {**GOOD, **changes})
    (folder / "test_mine.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    words = ("-m", "pytest", "-q", "-p", "galelb.testing.pytest_plugin", "-p", "no:cacheprovider")
    done = subprocess.run(
        (sys.executable, *words, "-k", chosen, "test_mine.py"),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    return done.stdout + done.stderr


def test_a_good_forwarder_of_a_few_lines_keeps_it(tmp_path: Path) -> None:
    said = run(tmp_path, "not mutated and not moves_only")

    assert "failed" not in said, said
    assert " passed" in said
    assert "TestMine gale_xdp_entry: " in said, "sizes are reported"


def test_one_that_changes_more_than_its_model_says_does_not(tmp_path: Path) -> None:
    said = run(tmp_path, "test_packets_reach_a_node and tcp4", ttl=1)

    assert "A packet to a service must reach a node, with nothing changed" in said
    assert "fields, predicted -> seen: ip.ttl 64 -> 63" in said
    assert "other bytes than predicted" in said
    assert "given on galepub0: 203.0." in said


def test_one_that_passes_packets_to_services_does_not(tmp_path: Path) -> None:
    said = run(tmp_path, "next_hop_is_not_known and tcp4", no_hop="GALE_NOT_MINE")

    assert "2 failed" in said, said
    assert "A packet to a node without a next hop is dropped and counted as no_neighbour." in said
