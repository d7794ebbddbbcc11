# SPDX-License-Identifier: Apache-2.0
"""Cut flows into pages that stay true while flows come and go; pure."""

from __future__ import annotations

import base64
import binascii
import heapq
import json
from collections.abc import Iterable, Iterator

from galelb.api.limits import MAX_CURSOR
from galelb.api.view import FlowKey, FlowPage
from galelb.model import Flow

__all__ = ["cursor_text", "flow_key", "key_of_cursor", "page_of"]

_TYPES = (str, int, int, int, int, int, int)


def flow_key(flow: Flow) -> FlowKey:
    """Return what flows are sorted by; no two flows have the same."""
    return (
        flow.service,
        flow.client.version,
        int(flow.client),
        flow.client_port,
        int(flow.protocol),
        int(flow.source),
        flow.source_port,
    )


def page_of(
    flows: Iterable[Flow], *, limit: int, offset: int = 0, after: FlowKey | None = None
) -> FlowPage:
    """Return the `limit` flows that follow `after` and then `offset` others, in their order.

    Looks at every flow, but holds only a page of them.
    """
    total = 0

    def following() -> Iterator[tuple[FlowKey, Flow]]:
        nonlocal total
        for flow in flows:
            total += 1
            key = flow_key(flow)
            if after is None or key > after:
                yield key, flow

    # One more than asked for tells whether another page follows.
    found = heapq.nsmallest(offset + limit + 1, following(), key=lambda pair: pair[0])
    page = found[offset : offset + limit]
    more = len(found) > offset + limit
    return FlowPage(
        flows=tuple(flow for _, flow in page),
        total=total,
        next=page[-1][0] if page and more else None,
    )


def cursor_text(key: FlowKey) -> str:
    """Return a key as a cursor of the API."""
    packed = json.dumps(key, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def key_of_cursor(text: str) -> FlowKey | None:
    """Return the key in a cursor, or None when it is none of ours."""
    if len(text) > MAX_CURSOR or not text.isascii():
        return None
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        key = json.loads(packed)
    except (ValueError, binascii.Error, RecursionError):
        return None
    if not isinstance(key, list) or [type(part) for part in key] != list(_TYPES):
        return None
    service, version, client, port, protocol, source, source_port = key
    return (service, version, client, port, protocol, source, source_port)
