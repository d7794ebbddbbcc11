# SPDX-License-Identifier: Apache-2.0
"""One site for all tests of units, since installing and booting take longer than what they test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machines.group import machines
from tests.systemd.site import Site, lb_toml


@pytest.fixture(scope="session")
def started(installed_layer: Path) -> Iterator[Site]:
    """Balancer and node run under systemd and forward."""
    with machines(["lb-0", "node-0"], layers=[installed_layer]) as found:
        site = Site(found)
        site.set_up()
        site.start()
        yield site


@pytest.fixture
def site(started: Site) -> Iterator[Site]:
    """The same, as it was before whatever the test does to it."""
    yield started
    started.lb.write("/etc/galelb/lb.toml", lb_toml())
    started.lb.run("systemctl", "reset-failed")
    started.lb.run("systemctl", "restart", "galelb")
    started.node.run("systemctl", "restart", "galelb-node")
    started.wait_answer()
