# SPDX-License-Identifier: Apache-2.0
"""Many flows are held, each with its own entry and port; the benchmark flows sees it if not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from galelb_plugins.l4_nat.entries import USED

from bench.flowtable_census import census
from bench.flowtable_load import load
from galelb.testing.lives import OPEN, USE

pytestmark = pytest.mark.bpf

ROOT = Path(__file__).parents[2]
FLOWS = 200_000
SIZES = {"ROUNDS": "1", "FLOWS": str(FLOWS), "PACKETS": "20000"}
FEW = 1000
QUADS = {4: 2, 6: 4}


def test_the_benchmark_of_the_flow_table_holds_all_flows_but_a_few_it_refused():
    done = subprocess.run(
        [sys.executable, "-m", "bench", "flows", "--json"],
        env=os.environ | {f"GALELB_BENCH_{key}": value for key, value in SIZES.items()},
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=280,
    )
    assert 0 == done.returncode, done.stderr.decode()
    families = json.loads(done.stdout)["flows"]["families"]

    assert [4, 6] == [one["version"] for one in families]
    for one in families:
        held = one["held"]
        assert FLOWS == held["flows"] + held["refused"]
        assert 20 > held["refused"]
        assert 0 < one["sweep"]["packet_ratio"]["min"]
        assert 0 < one["contention"]["packets_per_s"]["same"]["min"]


@pytest.fixture(params=[4, 6])
def table(request):
    """A thousand established flows."""
    with load(request.param, FEW) as made:
        (record,) = made.lead(OPEN, [(FEW, 0, FEW)])
        assert (FEW, 0, 0) == (record.ended, record.crossed, record.moved)
        yield made


def used(table, name: str):
    """The numbers of a mapped table, and where in it the words in use are."""
    version = table.lives.version
    numbers = memoryview(table.runner.maps[f"l4_nat_{name}{version}"].mmap()).cast("Q")
    step = QUADS[version]
    return numbers, [at for at in range(step - 1, len(numbers), step) if numbers[at] >= USED]


def test_a_census_finds_tables_whole(table):
    found = census(table.runner.maps, table.lives.version)

    assert (FEW, True) == (found.flows, found.whole)


def test_a_census_finds_a_client_that_has_two_flows(table):
    numbers, (one, other, *_) = used(table, "flows")
    step = QUADS[table.lives.version]
    numbers[other - step + 1 : other] = numbers[one - step + 1 : one]

    found = census(table.runner.maps, table.lives.version)

    assert (1, 1, 0) == (found.doubled_keys, found.crossed, found.doubled_ports)


def test_a_census_finds_a_port_that_two_flows_have(table):
    numbers, (one, other, *_) = used(table, "flows")
    numbers[other] = numbers[one]

    found = census(table.runner.maps, table.lives.version)

    assert (1, 1, 1) == (found.doubled_ports, found.crossed, found.orphans)


def test_a_census_finds_a_port_of_nobody(table):
    numbers, (one, *_) = used(table, "flows")
    numbers[one] = 0

    found = census(table.runner.maps, table.lives.version)

    assert (FEW - 1, 1) == (found.flows, found.orphans)


def test_answers_that_reach_somebody_else_are_counted(table):
    """Two ports' clients change places: both directions still find a flow."""
    numbers, (one, other, *_) = used(table, "ports")
    first, last = QUADS[table.lives.version] - 1, 0
    keys = [slice(at - first, at - last) for at in (one, other)]
    held = [numbers[key].tolist() for key in keys]
    for key, values in zip(keys, reversed(held), strict=True):
        for at, value in zip(range(key.start, key.stop), values, strict=True):
            numbers[at] = value

    (record,) = table.lead(USE, [(FEW, 0, FEW)])

    assert 2 == record.crossed
