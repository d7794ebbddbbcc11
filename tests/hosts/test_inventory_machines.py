# SPDX-License-Identifier: Apache-2.0
"""The scenarios on machines that an inventory names, as their user runs them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.site import BALANCERS, NODES, SYSCTLS, deploy, write_inventory
from tests.machines.group import Machines, machines

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def found(installed_layer: Path) -> Iterator[Machines]:
    with machines([*BALANCERS, *NODES], layers=[installed_layer], sysctls=SYSCTLS) as found:
        deploy(found)
        yield found


def scenarios(found: Machines, folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run pytest beside the machines."""
    inventory = write_inventory(found, folder / "hosts.yml")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "e2e/hosts"]
    command += ["--hosts", "inventory", "--inventory", str(inventory), *options]
    return subprocess.run(
        found.network.inside(command), cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_all_scenarios_pass_on_machines_of_an_inventory(found: Machines, tmp_path: Path) -> None:
    done = scenarios(found, tmp_path)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "8 passed" in done.stdout


def test_a_machine_that_is_not_well_is_named(found: Machines, tmp_path: Path) -> None:
    found["node-1"].run("systemctl", "stop", "galelb-node")
    try:
        done = scenarios(found, tmp_path, "--patience", "8", "-k", "all_instances_are_up")
    finally:
        found["node-1"].run("systemctl", "start", "galelb-node")

    assert 1 == done.returncode, done.stdout + done.stderr
    for name in BALANCERS:
        assert f"{name} does not use node-1: down" in done.stdout
    assert "does not use node-0" not in done.stdout
