# SPDX-License-Identifier: Apache-2.0
"""Whatever a client sends, the answer is never a failure of ours."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from galelb.api.app import create_app
from galelb.api.auth import AllowAll
from galelb.testing.fakes import FakeBalancer

PARTS = st.sampled_from(
    ["v1", "status", "nodes", "flows", "web-1", "10.0.0.11", "weight", "drain", "history", ""]
)
PATHS = st.lists(PARTS | st.text(max_size=8), max_size=5).map(lambda parts: "/" + "/".join(parts))
RESOURCES = st.sampled_from(
    [
        "/v1/flows",
        "/v1/nodes/web-1/weight",
        "/v1/nodes/web-1/drain",
        "/v1/nodes/10.0.0.99/history",
        "/v1/events",
        "/v1/events/recent",
        "/v1/capture",
        "/metrics",
    ]
)
QUERIES = st.binary(max_size=30) | st.builds(
    lambda name, value: name + b"=" + value,
    st.sampled_from([b"limit", b"offset", b"node", b"service", b"client", b"cursor", b"state"]),
    st.binary(max_size=12),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=5,
)
BODIES = (
    st.binary(max_size=60)
    | JSON.map(lambda value: json.dumps(value).encode())
    | JSON.map(lambda value: json.dumps({"weight": value}).encode())
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"host", b"authorization", b"content-length", b"last-event-id", b"x"]),
        st.binary(max_size=20),
    ),
    max_size=3,
)


@settings(max_examples=300, deadline=None)
@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "X"]),
    path=PATHS | RESOURCES,
    query=QUERIES,
    body=BODIES,
    headers=HEADERS,
)
async def test_no_input_is_answered_with_5xx(
    method: str, path: str, query: bytes, body: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    sent: list[dict[str, Any]] = []
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogatepass"),
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": None,
        "server": None,
    }
    await create_app(FakeBalancer(), AllowAll())(scope, receive, send)

    assert 200 <= sent[0]["status"] < 500
    if sent[0]["status"] >= 400:
        error = json.loads(sent[1]["body"])["error"]
        assert {"code", "message"} == set(error)
