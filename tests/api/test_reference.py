# SPDX-License-Identifier: Apache-2.0
"""The reference documents every resource, key and error code that there is."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from galelb.api import serialise
from galelb.api.app import _Api
from galelb.api.auth import AllowAll
from galelb.api.view import PeerStatus
from galelb.model import Peer
from galelb.testing.fakes import FakeBalancer

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs/reference/api.md").read_text()


def test_every_resource_is_documented() -> None:
    documented = set(re.findall(r"`((?:GET|POST|PUT) /v1/\S+)`", REFERENCE))

    routes = _Api(FakeBalancer(), AllowAll()).routes()
    served = {
        f"{method} {route.path}"
        for route in routes
        for method in (route.methods or ())
        if method != "HEAD"
    }

    assert served == documented


async def test_every_key_is_documented() -> None:
    view = FakeBalancer()
    peer = PeerStatus(peer=Peer(address=view.node_list[0].record.node.address, port=1))
    objects = [
        serialise.status_json(await view.status(), ""),
        serialise.node_json(view.node_list[0]),
        serialise.service_json(view.service_list[0]),
        serialise.flow_json(view.flow_list[0]),
        serialise.peer_json(peer),
        serialise.plugin_json((await view.plugins())[0]),
    ]

    missing = {key for shown in objects for key in shown if f"`{key}`" not in REFERENCE}

    assert set() == missing


def test_every_error_code_is_documented() -> None:
    text = "".join(path.read_text() for path in (ROOT / "galelb/api").glob("*.py"))
    codes = set(re.findall(r'\b[45]\d\d,\s*"([a-z0-9_]+)"', text))

    assert {"unauthorized", "timeout", "refused"} <= codes
    assert set() == {code for code in codes if f"`{code}`" not in REFERENCE}


@pytest.mark.parametrize("field", [f.name for f in attrs.fields(PeerStatus)])
def test_peers_show_all_that_is_known_of_them(field: str) -> None:
    peer = PeerStatus(peer=Peer(address=FakeBalancer().node_list[0].record.node.address, port=1))

    assert field == "peer" or field in serialise.peer_json(peer)
