# SPDX-License-Identifier: Apache-2.0
"""Every operation of the API: the routes and the OpenAPI document are both made from this list."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from galelb.api import shapes
from galelb.api.limits import (
    DEFAULT_EVENTS,
    DEFAULT_PAGE,
    DEFAULT_SECONDS,
    DEFAULT_SNAPLEN,
    MAX_COUNT,
    MAX_CURSOR,
    MAX_EVENTS,
    MAX_OFFSET,
    MAX_PAGE,
    MAX_SECONDS,
    MAX_SNAPLEN,
    MAX_WEIGHT,
    MIN_SNAPLEN,
)

__all__ = ["EVENT_STREAM", "JSON", "OPERATIONS", "Operation", "Parameter"]

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
Schema = dict[str, Any]


@attrs.frozen(kw_only=True)
class Parameter:
    """Something that a client may add to a request's path, query or headers."""

    name: str
    text: str
    schema: Schema
    where: Literal["path", "query", "header"] = "query"


@attrs.frozen(kw_only=True)
class Operation:
    """A method on a path."""

    name: str
    """The handler in `galelb.api.app`, and the operationId."""
    method: str = "GET"
    path: str
    aliases: tuple[str, ...] = ()
    """Other paths for the same."""
    text: str
    answer: type[Any] | None = None
    """The shape of a JSON answer; None for other types."""
    media_type: str = JSON
    body: type[Any] | None = None
    body_schema: Schema = attrs.Factory(dict)
    """What the body's shape does not say, by key."""
    parameters: tuple[Parameter, ...] = ()
    errors: tuple[int, ...] = ()
    """Statuses other than 200, beside those that every operation has."""
    error_texts: dict[int, str] = attrs.Factory(dict)
    """Statuses whose answers have the shape of the 200, with what they mean."""
    changes: bool = False
    """Whether it needs the token over TCP."""
    open: bool = False
    """Whether it never needs the token."""

    @property
    def query(self) -> tuple[str, ...]:
        """Names of the query's parameters."""
        return tuple(one.name for one in self.parameters if one.where == "query")


def _whole(low: int, high: int, default: int | None = None) -> Schema:
    bounds: Schema = {"type": "integer", "minimum": low, "maximum": high}
    return bounds if default is None else bounds | {"default": default}


_TEXT: Schema = {"type": "string"}
_ADDRESS: Schema = {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
_FLAG: Schema = {"type": "boolean", "default": False}
_NODE = Parameter(
    name="node", where="path", text="A node's address, or its name when only one has it.",
    schema={"type": "string", "minLength": 1},
)  # fmt: skip
_SERVICE = Parameter(name="service", text="Only of this service (name).", schema=_TEXT)
_OF_NODE = Parameter(name="node", text="Only of this node (address or name).", schema=_TEXT)

OPERATIONS = (
    Operation(
        name="status", path="/v1/status", text="The balancer in one object.", answer=shapes.Status
    ),
    Operation(
        name="health",
        path="/v1/health",
        text="Whether clients can be served.",
        answer=shapes.Health,
        error_texts={503: "It does not serve clients, and why."},
        open=True,
    ),
    Operation(
        name="nodes",
        path="/v1/nodes",
        aliases=("/nodes",),
        text="All nodes.",
        answer=shapes.Nodes,
    ),
    Operation(
        name="node",
        path="/v1/nodes/{node}",
        aliases=("/nodes/{node}",),
        text="One node.",
        answer=shapes.Node,
        parameters=(_NODE,),
        errors=(404, 409),
    ),
    Operation(
        name="history",
        path="/v1/nodes/{node}/history",
        text="What became of a node and why, since the balancer started; by address also of one "
        "that is gone.",
        answer=shapes.History,
        parameters=(_NODE,),
        errors=(404, 409),
    ),
    Operation(
        name="drain",
        method="POST",
        path="/v1/nodes/{node}/drain",
        text="From now on the node gets no new connections; existing ones go on.",
        answer=shapes.NodeChange,
        parameters=(_NODE,),
        errors=(404, 409),
        changes=True,
    ),
    Operation(
        name="undrain",
        method="POST",
        path="/v1/nodes/{node}/undrain",
        text="The node gets new connections again.",
        answer=shapes.NodeChange,
        parameters=(_NODE,),
        errors=(404, 409),
        changes=True,
    ),
    Operation(
        name="weight",
        method="PUT",
        path="/v1/nodes/{node}/weight",
        text="The node gets another share of new connections.",
        answer=shapes.NodeChange,
        body=shapes.WeightWish,
        body_schema={"weight": {"minimum": 0, "maximum": MAX_WEIGHT}},
        parameters=(_NODE,),
        errors=(404, 409),
        changes=True,
    ),
    Operation(name="services", path="/v1/services", text="All services.", answer=shapes.Services),
    Operation(
        name="flows",
        path="/v1/flows",
        text="Tracked connections, sorted by service, client and port.",
        answer=shapes.Flows,
        parameters=(
            _SERVICE,
            _OF_NODE,
            Parameter(name="client", text="Only of this client (address).", schema=_ADDRESS),
            Parameter(
                name="state",
                text="Only in this state, as the forwarder calls it.",
                schema={"type": "string", "pattern": "^[a-z_]{1,32}$"},
            ),
            Parameter(
                name="limit",
                text="How many at most.",
                schema=_whole(1, MAX_PAGE, DEFAULT_PAGE),
            ),
            Parameter(
                name="cursor",
                text="The `cursor` of the page before; without `offset`.",
                schema={"type": "string", "maxLength": MAX_CURSOR, "pattern": "^[A-Za-z0-9_-]+$"},
            ),
            Parameter(
                name="offset", text="How many to leave out first.", schema=_whole(0, MAX_OFFSET, 0)
            ),
        ),
        errors=(404, 409),
    ),
    Operation(
        name="peers",
        path="/v1/peers",
        text="The other balancers of the group.",
        answer=shapes.Peers,
    ),
    Operation(
        name="plugins", path="/v1/plugins", text="The plugins in use.", answer=shapes.Plugins
    ),
    Operation(
        name="config",
        path="/v1/config",
        text="The configuration in force, without secrets.",
        answer=shapes.Config,
    ),
    Operation(
        name="events",
        path="/v1/events",
        text="Server-sent events as things happen, until the client leaves.",
        media_type=EVENT_STREAM,
        parameters=(
            Parameter(
                name="Last-Event-ID",
                where="header",
                text="The last event that the client has: those after it come first.",
                schema=_TEXT,
            ),
        ),
        errors=(429,),
    ),
    Operation(
        name="recent_events",
        path="/v1/events/recent",
        text="The last events.",
        answer=shapes.Events,
        parameters=(
            Parameter(
                name="limit",
                text="How many at most.",
                schema=_whole(1, MAX_EVENTS, DEFAULT_EVENTS),
            ),
        ),
    ),
    Operation(
        name="capture",
        method="POST",
        path="/v1/capture",
        text="Packets as pcapng, until the capture is over.",
        media_type="application/x-pcapng",
        parameters=(
            _SERVICE,
            _OF_NODE,
            Parameter(name="everything", text="Also what belongs to no service.", schema=_FLAG),
            Parameter(name="dropped", text="Only what is dropped.", schema=_FLAG),
            Parameter(
                name="snaplen",
                text="Bytes of each frame.",
                schema=_whole(MIN_SNAPLEN, MAX_SNAPLEN, DEFAULT_SNAPLEN),
            ),
            Parameter(name="count", text="End after so many packets.", schema=_whole(1, MAX_COUNT)),
            Parameter(
                name="seconds",
                text="End after this time.",
                schema=_whole(1, MAX_SECONDS, DEFAULT_SECONDS),
            ),
        ),
        errors=(404, 409),
        changes=True,
    ),
    Operation(
        name="metrics",
        path="/v1/metrics",
        aliases=("/metrics",),
        text="[Metrics](metrics.md) for Prometheus, text format 0.0.4.",
        media_type="text/plain",
    ),
    Operation(
        name="openapi",
        path="/openapi.json",
        aliases=("/v1/openapi.json",),
        text="This API as an OpenAPI 3.1 document.",
        answer=dict,
        open=True,
    ),
)
