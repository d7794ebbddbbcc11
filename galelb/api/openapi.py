# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI 3.1 document of the API."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, Literal

from pydantic import TypeAdapter
from typing_extensions import get_original_bases

from galelb.api import shapes
from galelb.api.operations import EVENT_STREAM, JSON, OPERATIONS, Operation

__all__ = ["document", "schemas"]

Json = dict[str, Any]
_REF = "#/components/schemas/{model}"
_EVERYWHERE = (400, 401, 408, 413)
"""Errors that any operation may answer with."""


@functools.cache
def document(version: str) -> Json:
    """Return the document; takes some milliseconds the first time."""
    paths: dict[str, Json] = {}
    for operation in OPERATIONS:
        for path in (operation.path, *operation.aliases):
            item = paths.setdefault(path, {})
            item[operation.method.lower()] = _operation(operation, path)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "galelb",
            "version": version,
            "summary": "One balancer: what it sees, and what an operator may change.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def schemas() -> dict[str, Json]:
    """Return the JSON schema of every shape, by name."""
    mode: Literal["serialization"] = "serialization"
    adapters = [(name, mode, TypeAdapter(getattr(shapes, name))) for name in _named()]
    _, found = TypeAdapter.json_schemas(adapters, ref_template=_REF)
    definitions: dict[str, Json] = found["$defs"]
    _describe_inherited(definitions)
    for operation in OPERATIONS:
        for key, bounds in operation.body_schema.items():
            assert operation.body is not None
            body = definitions[operation.body.__name__]
            body["additionalProperties"] = False
            _numbers(body["properties"][key]).update(bounds)
    return {name: _plain(definition) for name, definition in sorted(definitions.items())}


def _describe_inherited(definitions: dict[str, Json]) -> None:
    """Copy the texts of keys that a shape has from another: pydantic only reads its own."""
    for name, definition in definitions.items():
        for base in get_original_bases(getattr(shapes, name)):
            inherited = definitions.get(base.__name__, {}).get("properties", {})
            for key, schema in inherited.items():
                definition["properties"][key].setdefault("description", schema["description"])


def _named() -> Iterator[str]:
    answers = [op.answer for op in OPERATIONS if op.answer is not None]
    names = {answer.__name__ for answer in answers if answer is not dict}
    names |= {op.body.__name__ for op in OPERATIONS if op.body is not None}
    yield from sorted({*names, "Error"})


def _numbers(schema: Json) -> Json:
    """Return the part of a schema that is about numbers."""
    return next(
        one for one in schema.get("anyOf", [schema]) if one.get("type") in ("integer", "number")
    )


def _plain(value: Any) -> Any:
    """Leave out the titles, which only repeat names, and breaks of lines in texts."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: " ".join(one.split()) if key == "description" and isinstance(one, str) else _plain(one)
        for key, one in value.items()
        if not (key == "title" and isinstance(one, str))
    }


def _operation(operation: Operation, path: str) -> Json:
    found: Json = {
        "operationId": operation.name + ("" if path == operation.path else "_alias"),
        "summary": operation.text,
        "parameters": [
            {
                "name": one.name,
                "in": one.where,
                "required": one.where == "path",
                "description": one.text,
                "schema": one.schema,
            }
            for one in operation.parameters
        ],
        "responses": dict(_responses(operation)),
    }
    if operation.body is not None:
        schema = {"$ref": _REF.format(model=operation.body.__name__)}
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    if operation.changes:
        found["security"] = [{"token": []}]
    elif not operation.open:
        found["security"] = [{}, {"token": []}]
    return found


def _responses(operation: Operation) -> Iterator[tuple[str, Json]]:
    content = {operation.media_type: {"schema": _answer_schema(operation)}}
    yield (
        "200",
        {"description": "Done." if operation.changes else "Here it is.", "content": content},
    )
    for status, text in operation.error_texts.items():
        yield str(status), {"description": text, "content": content}
    error = {JSON: {"schema": {"$ref": _REF.format(model="Error")}}}
    for status in _errors(operation):
        yield str(status), {"description": HTTPStatus(status).phrase, "content": error}


def _errors(operation: Operation) -> Iterable[int]:
    everywhere = (status for status in _EVERYWHERE if status != 401 or not operation.open)
    return sorted({*everywhere, *operation.errors})


def _answer_schema(operation: Operation) -> Json:
    if operation.answer is dict:
        return {"type": "object"}
    if operation.answer is not None:
        return {"$ref": _REF.format(model=operation.answer.__name__)}
    if operation.media_type == EVENT_STREAM:
        return _event_schema()
    return {"type": "string"} if operation.media_type.startswith("text/") else {}


def _event_schema() -> Json:
    """Return what one event of a stream is; OpenAPI 3.1 has no other word for a stream of them."""
    event = {"$ref": _REF.format(model="Event")}
    data = {"type": "string", "contentMediaType": JSON, "contentSchema": event}
    text = {"type": "string"}
    return {
        "type": "object",
        "properties": {"id": text, "event": text, "data": data},
        "required": ["event", "data"],
    }
