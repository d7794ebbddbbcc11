# SPDX-License-Identifier: Apache-2.0
"""The benchmarks run and say what they measured; how fast the machine is does not matter here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.netns  # no namespaces, but it takes too long for the fast tier
def test_the_benchmark_of_health_reports_figures():
    sizes = {"STREAMS": "20", "SECONDS": "1", "RUNS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "bench", "health", "--json"],
        env=os.environ | {f"GALELB_BENCH_{key}": value for key, value in sizes.items()},
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=120,
    )
    result = json.loads(done.stdout)["health"]

    (run,) = result["runs"]
    assert 20 == result["streams"]
    assert 0 == run["falls"]
    assert 0 < run["p50_ms"] <= run["p99_ms"] <= run["worst_ms"]
    assert run["bytes_per_stream"] > 0
