# SPDX-License-Identifier: Apache-2.0
"""The benchmark of growth runs whole, only small."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIZES = {"ROUNDS": "1", "PACKETS": "1000", "FLOWS": "10", "NODES": "10", "SERVICES": "1"}


@pytest.mark.bpf
def test_the_benchmark_of_growth_reports_and_draws_figures(tmp_path):
    plot = tmp_path / "plots" / "scale.png"
    done = subprocess.run(
        [sys.executable, "-m", "bench", "scale", "--json"],
        env=os.environ
        | {f"GALELB_BENCH_{key}": value for key, value in SIZES.items()}
        | {"GALELB_BENCH_PLOT": str(plot)},
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert 0 == done.returncode, done.stderr.decode()
    series = json.loads(done.stdout)["scale"]["series"]

    assert {"flows": 4, "nodes": 4, "services": 4} == {key: len(one) for key, one in series.items()}
    assert [1, 10] == [point["at"] for point in series["flows"]["l4_nat to clients"]]
    lines = [points for each in series.values() for points in each.values()]
    assert all(one["ratio"]["min"] > 0 for points in lines for one in points)
    assert plot.read_bytes().startswith(b"\x89PNG\r\n")
