# SPDX-License-Identifier: Apache-2.0
"""Makes the bird that is none importable, and quickens the announcer."""

import sys
from pathlib import Path

import pytest
from galelb_plugins.announce_bgp import plugin

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Look at bird often, so that no test waits for long."""
    monkeypatch.setattr(plugin, "_RETRY_S", 0.02)
    monkeypatch.setattr(plugin, "_LOOK_S", 0.05)
    monkeypatch.setattr(plugin, "_POLLS", 3)
