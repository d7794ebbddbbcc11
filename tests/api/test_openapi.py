# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document says what the API does, and the API does what it says."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.generation.modes import GenerationMode

from galelb.api.app import _Api, create_app
from galelb.api.auth import AllowAll
from galelb.api.openapi import document
from galelb.api.view import PeerStatus
from galelb.model import Peer
from galelb.testing.fakes import FakeBalancer

DOCUMENT = document("1.0")


def may_be_wrong(operation: dict[str, Any]) -> bool:
    """Return whether there are requests that differ from what the document asks for."""
    schemas = [one["schema"] for one in operation["parameters"] if one["in"] == "query"]
    return "requestBody" in operation or any(schema != {"type": "string"} for schema in schemas)


# Who may do what is tested elsewhere: here whoever asks may.
TRUSTED = json.loads(json.dumps(DOCUMENT))
for _item in TRUSTED["paths"].values():
    for _operation in _item.values():
        _operation.pop("security", None)
SCHEMA = schemathesis.openapi.from_dict(TRUSTED)
ASKED = [
    (path, method, mode)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or may_be_wrong(operation)
]
load_all_checks()
PROMISES = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
    ]
)


ALL_PROMISES = [*PROMISES, *CHECKS.get_by_names(["positive_data_acceptance"])]
EXCLUSIVE = {"/v1/flows", "/v1/capture"}
"""Some of their parameters do not go together, for which OpenAPI has no words."""


def full_balancer() -> FakeBalancer:
    """Return one that has something of everything, and whose streams end at once."""
    view = FakeBalancer()
    peer = Peer(address=IPv4Address("10.0.0.2"), port=9090)
    view.peer_list = [PeerStatus(peer=peer, last_seen_s=1.0)]
    view.notes = ("look here",)
    view.events.add("node_joined", node="10.0.0.11", name="web-1")
    view.events.close()
    return view


@asynccontextmanager
async def speaking() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(full_balancer(), AllowAll()))
    async with httpx.AsyncClient(transport=transport, base_url="http://galelb") as client:
        yield client


def sent(case: schemathesis.Case) -> requests.PreparedRequest:
    return requests.Request(**case.as_transport_kwargs(base_url="http://galelb")).prepare()


@pytest.mark.parametrize(("path", "method", "mode"), ASKED)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_whatever_is_asked_the_answer_is_as_described(
    path: str, method: str, mode: GenerationMode, data: st.DataObject
) -> None:
    operation = SCHEMA[path][method.upper()]
    case = data.draw(operation.as_strategy(generation_mode=mode))
    request = sent(case)
    async with speaking() as client:
        response = await client.request(
            request.method or "",
            request.url or "",
            headers=dict(request.headers),
            content=request.body,
        )

    case.validate_response(response, checks=PROMISES if path in EXCLUSIVE else ALL_PROMISES)


def test_every_route_is_in_the_document_and_nothing_else() -> None:
    routes = _Api(FakeBalancer(), AllowAll(), token_reads=False).routes()

    assert {(path, method) for path, item in DOCUMENT["paths"].items() for method in item} == {
        (route.path, method.lower())
        for route in routes
        for method in (route.methods or ())
        if method != "HEAD"
    }


def test_the_document_is_openapi_3_1() -> None:
    SCHEMA.validate()
    names = [one["operationId"] for item in DOCUMENT["paths"].values() for one in item.values()]

    assert "3.1.0" == DOCUMENT["openapi"]
    assert len(names) == len(set(names))


async def test_it_is_served_at_both_places() -> None:
    async with speaking() as client:
        served = [(await client.get(path)).json() for path in ("/openapi.json", "/v1/openapi.json")]

    assert served[0] == served[1]
    assert DOCUMENT["paths"] == served[0]["paths"]
    assert importlib.metadata.version("galelb") == served[0]["info"]["version"]


def unknown(value: Any, schema: dict[str, Any]) -> Iterator[str]:
    """Yield the keys in an answer that its schema does not name."""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if isinstance(value, list):
        for one in value:
            yield from unknown(one, schema.get("items", {}))
    elif isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
        for one in value.values():
            yield from unknown(one, schema["additionalProperties"])
    elif isinstance(value, dict) and "properties" in schema:
        yield from value.keys() - schema["properties"].keys()
        for key in value.keys() & schema["properties"].keys():
            yield from unknown(value[key], schema["properties"][key])


@pytest.mark.parametrize(
    "path", ["status", "health", "nodes", "nodes/web-1", "services", "flows", "peers", "plugins"]
)
async def test_answers_have_no_key_that_is_not_described(path: str) -> None:
    async with speaking() as client:
        answer = (await client.get(f"/v1/{path}")).json()
    template = "/v1/nodes/{node}" if path.startswith("nodes/") else f"/v1/{path}"
    responses = DOCUMENT["paths"][template]["get"]["responses"]

    assert [] == list(unknown(answer, responses["200"]["content"]["application/json"]["schema"]))


@pytest.mark.parametrize(("name", "schema"), DOCUMENT["components"]["schemas"].items())
def test_every_key_is_described(name: str, schema: dict[str, Any]) -> None:
    undescribed = [
        key for key, of in schema["properties"].items() if not ("$ref" in of or of["description"])
    ]

    assert ([], True) == (undescribed, bool(schema["description"]))
