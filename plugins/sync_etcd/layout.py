# SPDX-License-Identifier: Apache-2.0
"""How members and records lie in etcd, without input and output.

PREFIX/member/NAME       {"address", "port", "epoch"} as JSON
PREFIX/alive/NAME        the epoch, on the member's lease
PREFIX/record/NAME/KEY   the value
"""

from __future__ import annotations

import base64
import json
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, unquote

import attrs

from galelb.model import IPAddress

__all__ = ["Change", "Layout", "Place", "encode", "read_change", "text_of"]


@attrs.frozen
class Place:
    """Where a member is, and which of its starts that was."""

    address: IPAddress
    port: int
    epoch: str

    def pack(self) -> bytes:
        """Return it as it lies in etcd."""
        parts = {"address": str(self.address), "port": self.port, "epoch": self.epoch}
        return json.dumps(parts).encode()

    @classmethod
    def parse(cls, data: bytes) -> Place:
        """Read it. Raises ValueError."""
        parts = json.loads(data)
        if not isinstance(parts, dict):
            raise ValueError("no object")  # noqa: TRY004 - one error for all that is wrong
        address, port, epoch = (parts.get(key) for key in ("address", "port", "epoch"))
        if type(port) is not int or not 0 < port < 65536:
            raise ValueError("no port")
        if not isinstance(address, str) or not isinstance(epoch, str) or len(epoch) > 64:
            raise ValueError("no address or epoch")
        return cls(ip_address(address), port, epoch)


@attrs.frozen
class Change:
    """A key that was written, or deleted (None)."""

    key: bytes
    value: bytes | None


class Layout:
    """The keys of one group."""

    def __init__(self, prefix: str) -> None:
        self.root = f"{prefix}/".encode()

    def member(self, name: str) -> bytes:
        """Return the key of a member's place."""
        return self.root + f"member/{quote(name, safe='')}".encode()

    def alive(self, name: str) -> bytes:
        """Return the key that says that a member lives."""
        return self.root + f"alive/{quote(name, safe='')}".encode()

    def record(self, name: str, key: str = "") -> bytes:
        """Return the key of a record; without `key` what all of the member's begin with."""
        return self.root + f"record/{quote(name, safe='')}/{key}".encode()

    def split(self, key: bytes) -> tuple[str, str, str]:
        """Return kind, member's name and record's key. Raises ValueError for foreign keys."""
        if not key.startswith(self.root):
            raise ValueError("not below the prefix")
        kind, _, rest = key[len(self.root) :].decode().partition("/")
        name, slash, record = rest.partition("/")
        if kind not in ("member", "alive", "record") or bool(slash) != (kind == "record"):
            raise ValueError("no key of ours")
        name = unquote(name, errors="strict")
        if not 1 <= len(name.encode()) <= 63:
            raise ValueError("no name of a member")
        return kind, name, record


def encode(data: bytes) -> str:
    """Return bytes as etcd's JSON has them."""
    return base64.b64encode(data).decode()


def text_of(data: Any) -> bytes:
    """Return bytes from etcd's JSON, which leaves out what is empty. Raises ValueError."""
    if not isinstance(data, str | None):
        raise ValueError("no text")  # noqa: TRY004 - one error for all that is wrong
    return base64.b64decode(data or "", validate=True)


def read_change(entry: Any, *, deleted: bool = False) -> Change:
    """Return a key and its value from etcd's JSON. Raises ValueError."""
    if not isinstance(entry, dict):
        raise ValueError("no key and value")  # noqa: TRY004 - one error for all that is wrong
    return Change(text_of(entry.get("key")), None if deleted else text_of(entry.get("value")))
