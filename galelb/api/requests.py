# SPDX-License-Identifier: Apache-2.0
"""Read what a client sent; everything unusable becomes a RequestError that says what is allowed."""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from galelb.api.limits import MAX_WEIGHT
from galelb.api.paging import key_of_cursor
from galelb.api.view import BalancerView, FlowKey, NodeStatus, UnknownNodeError
from galelb.errors import GaleError
from galelb.model import IPAddress

__all__ = [
    "RequestError",
    "address_or_none",
    "client_filter",
    "cursor_of",
    "find_node",
    "integer",
    "json_body",
    "query",
    "state_filter",
    "weight_of",
]

_STATE = re.compile(r"[a-z_]{1,32}")


class RequestError(GaleError):
    """The client's mistake: `status` is the answer's, `code` names the kind of mistake."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def query(request: Request, allowed: Sequence[str] = ()) -> dict[str, str]:
    """Return the query parameters; one that is not allowed or given twice is an error."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in allowed:
            names = ", ".join(allowed) or "none"
            raise RequestError(
                400, "unknown_parameter", f"unknown parameter {name!r}; allowed: {names}"
            )
        if name in found:
            raise RequestError(400, "bad_parameter", f"parameter {name!r} is given twice")
        found[name] = value
    return found


def integer(params: dict[str, str], name: str, default: int, low: int, high: int) -> int:
    """Return a whole number between `low` and `high`."""
    text = params.get(name)
    if text is None:
        return default
    # int() also takes "1_0", " 1" and other scripts' digits, which nobody means.
    if text.isascii() and text.isdigit() and len(text) <= 12 and low <= int(text) <= high:
        return int(text)
    raise RequestError(
        400, "bad_parameter", f"{name} must be a whole number from {low} to {high}, got {text!r}"
    )


def address_or_none(text: str) -> IPAddress | None:
    """Return an IP address, or None when the text is not one."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def client_filter(params: dict[str, str]) -> IPAddress | None:
    """Return the client whose flows are wanted, None = everybody's."""
    text = params.get("client")
    if text is None:
        return None
    address = address_or_none(text)
    if address is None:
        raise RequestError(400, "bad_parameter", f"client must be an IP address, got {text!r}")
    return address


def state_filter(params: dict[str, str]) -> str | None:
    """Return the state in which flows are wanted, None = any; forwarders name their own."""
    text = params.get("state")
    if text is None or _STATE.fullmatch(text):
        return text
    raise RequestError(
        400, "bad_parameter", f"state must be a word such as established, got {_brief(text)!r}"
    )


def cursor_of(params: dict[str, str]) -> FlowKey | None:
    """Return where a page begins, None = at the first flow."""
    text = params.get("cursor")
    if text is None:
        return None
    if "offset" in params:
        raise RequestError(400, "bad_parameter", "cursor and offset do not go together")
    key = key_of_cursor(text)
    if key is None:
        raise RequestError(
            404, "unknown_cursor", "cursor must be the one that came with the page before"
        )
    return key


async def find_node(view: BalancerView, wanted: str) -> NodeStatus:
    """Return the node with this address or name.

    Raises UnknownNodeError, or RequestError when several nodes share the name.
    """
    nodes = await view.nodes()
    address = address_or_none(wanted)
    matches = [n for n in nodes if address is not None and n.record.node.address == address]
    matches = matches or [n for n in nodes if wanted and n.record.node.name == wanted]
    if len(matches) == 1:
        return matches[0]
    if matches:
        addresses = ", ".join(str(n.record.node.address) for n in matches)
        raise RequestError(
            409, "ambiguous_node", f"several nodes are called {wanted!r}: use one of {addresses}"
        )
    names = [n.record.node.name for n in nodes if n.record.node.name]
    raise UnknownNodeError(wanted, [*names, *(str(n.record.node.address) for n in nodes)])


async def json_body(request: Request, allowed: Sequence[str]) -> dict[str, Any]:
    """Return the body, a JSON object with exactly the `allowed` keys."""
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "invalid_json", f"the body is not JSON: {_brief(error)}") from error
    if not isinstance(body, dict):
        raise RequestError(400, "bad_body", "the body must be a JSON object")
    for key in body:
        if key not in allowed:
            nearest = difflib.get_close_matches(key, allowed, n=1)
            hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
            raise RequestError(
                400, "bad_body", f"unknown key {key!r}{hint}; allowed: {', '.join(allowed)}"
            )
    for key in allowed:
        if key not in body:
            raise RequestError(400, "bad_body", f"the body has no key {key!r}")
    return body


def weight_of(body: dict[str, Any]) -> int | None:
    """Return the body's weight; None means the node's own."""
    weight = body["weight"]
    # To whoever reads JSON 5.0 is a whole number, which it is not to Python, and True is none.
    whole = type(weight) is int or (type(weight) is float and weight.is_integer())
    if weight is None or (whole and 0 <= weight <= MAX_WEIGHT):
        return None if weight is None else int(weight)
    raise RequestError(
        400,
        "bad_body",
        f"weight must be a whole number from 0 to {MAX_WEIGHT} or null, got {_brief(weight)}",
    )


def _brief(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    if isinstance(value, Exception):
        text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
