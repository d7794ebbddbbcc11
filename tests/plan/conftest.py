# SPDX-License-Identifier: Apache-2.0
"""Configurations written as text, and plans from one to another by the real plugins."""

import pytest

from galelb.config import load_balancer_config
from galelb.errors import GaleError
from galelb.plan.make import make_plan
from galelb.plan.sides import next_side, offline_side
from galelb.plugins import Plugins

HEAD = """\
[private_interface]
net_interface_private = "eth0"
[public_interface]
net_interface_public = "eth1"
"""


def no_interface(name):
    raise GaleError(f"{name}: no interface may be looked for here")


class Plans:
    """Sides and plans; `text` are the sections that a file has beside its interfaces."""

    def __init__(self, folder, plugins):
        self._folder = folder
        self.plugins = plugins

    def config(self, text):
        path = self._folder / "lb.toml"
        path.write_text(HEAD + text)
        return load_balancer_config(path, self.plugins)

    def side(self, text):
        return offline_side(self.config(text), no_interface)

    def plan(self, before, after):
        """The plan from text or a side to text or a side."""
        old = self.side(before) if isinstance(before, str) else before
        then = next_side(old, self.config(after), no_interface) if isinstance(after, str) else after
        return make_plan(old, then, self.plugins)


@pytest.fixture(scope="session")
def plugins():
    return Plugins.discover(environ={})


@pytest.fixture
def plans(tmp_path, plugins):
    return Plans(tmp_path, plugins)
