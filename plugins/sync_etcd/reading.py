# SPDX-License-Identifier: Apache-2.0
"""Reads all keys that begin alike, in pages, as they were at one revision."""

from __future__ import annotations

from typing import Any

from galelb_plugins.sync_etcd.gateway import EtcdError, Gateway
from galelb_plugins.sync_etcd.layout import encode, text_of

__all__ = ["read_all"]

_PAGE = 1000
_MOST = 128 * 4200
"""Keys of a full group."""


async def read_all(gateway: Gateway, root: bytes) -> tuple[list[Any], dict[str, Any]]:
    """Return the entries below `root`, which ends with a slash, and the first answer's header.

    Raises EtcdError, and ValueError or KeyError for answers that make no sense.
    """
    body: dict[str, Any] = {"key": encode(root), "range_end": encode(root[:-1] + b"0")}
    body["limit"] = str(_PAGE)
    first = answer = await gateway.ask("kv/range", body)
    entries = list(answer.get("kvs", []))
    while answer.get("more") is True:
        if not answer.get("kvs") or len(entries) > _MOST:
            raise EtcdError(f"{gateway.endpoint}: too many keys below the prefix")
        body["key"] = encode(text_of(entries[-1]["key"]) + b"\0")
        body["revision"] = str(int(first["header"]["revision"]))
        answer = await gateway.ask("kv/range", body)
        entries += answer.get("kvs", [])
    return entries, first["header"]
