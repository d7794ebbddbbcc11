# SPDX-License-Identifier: Apache-2.0
"""The hosts that scenarios run on, as `--hosts` and `--inventory` say."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.hosts.inventory import read_inventory
from e2e.hosts.lab import lab_hosts
from e2e.hosts.model import Hosts
from e2e.hosts.ssh import inventory_hosts
from e2e.hosts.whole import wait_whole


@pytest.fixture(scope="package")
def all_hosts(request: pytest.FixtureRequest) -> Iterator[Hosts]:
    """One set of hosts for all scenarios, in whatever state the last one left it."""
    with _chosen(request.config) as hosts:
        yield hosts


@pytest.fixture
async def hosts(all_hosts: Hosts) -> Hosts:
    """The hosts, all of them up."""
    await wait_whole(all_hosts)
    return all_hosts


def _chosen(config: pytest.Config) -> contextlib.AbstractContextManager[Hosts]:
    files = [Path(file) for file in config.getoption("--inventory")]
    if config.getoption("--hosts") == "lab":
        if files:
            raise pytest.UsageError("--inventory is for --hosts inventory")
        return lab_hosts()
    if not files:
        raise pytest.UsageError("--hosts inventory needs --inventory FILE")
    return inventory_hosts(read_inventory(files))
