# SPDX-License-Identifier: Apache-2.0
"""The reference documents every resource, key and error code that there is."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from galelb.api import serialise
from galelb.api.events import GAP
from galelb.api.view import PeerStatus
from galelb.model import Peer
from galelb.testing.fakes import FakeBalancer

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs/reference/api.md").read_text()


async def test_every_event_is_documented() -> None:
    rows = "".join(line for line in REFERENCE.splitlines() if line.startswith("| `"))
    source = (ROOT / "galelb/control/chronicle.py").read_text()
    kinds = set(re.findall(r'(?:add\(|return |else )\s*"(\w+)"', source)) | {GAP}

    assert {"node_state", "node_left", "config_refused", "stopping"} <= kinds
    assert set() == {kind for kind in kinds if f"`{kind}`" not in rows}


def test_every_error_code_is_documented() -> None:
    text = "".join(path.read_text() for path in (ROOT / "galelb/api").glob("*.py"))
    codes = set(re.findall(r'\b[45]\d\d,\s*"([a-z0-9_]+)"', text))

    assert {"unauthorized", "timeout", "refused"} <= codes
    assert set() == {code for code in codes if f"`{code}`" not in REFERENCE}


@pytest.mark.parametrize("field", [f.name for f in attrs.fields(PeerStatus)])
def test_peers_show_all_that_is_known_of_them(field: str) -> None:
    peer = PeerStatus(peer=Peer(address=FakeBalancer().node_list[0].record.node.address, port=1))

    assert field == "peer" or field in serialise.peer_json(peer)
