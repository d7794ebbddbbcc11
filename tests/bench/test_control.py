# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the control plane runs whole, only small."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIZES = {"ROUNDS": "1", "CHANGES": "2", "NODES": "12", "SERVICES": "2", "FORWARDERS": "l2_bridge"}


@pytest.mark.netns
def test_the_benchmark_of_the_control_plane_reports_figures(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bench", "control", "--json"],
        env=os.environ
        | {f"GALELB_BENCH_{key}": value for key, value in SIZES.items()}
        | {"CACHE_DIRECTORY": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert 0 == done.returncode, done.stderr.decode()
    result = json.loads(done.stdout)["control"]

    assert {1, 2} == {one["services"] for one in result["plans"]}
    assert all(0 < one["change_ms"]["min"] <= one["change_ms"]["max"] for one in result["plans"])
    (start,), (large,) = result["starts"], result["large"]
    assert 0 < start["cold_ms"]["min"]
    assert 0 == start["adopted_lost"]["max"]
    assert (12, 2) == (large["nodes"], large["change_ms"]["count"])
