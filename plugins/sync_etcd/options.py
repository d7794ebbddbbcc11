# SPDX-License-Identifier: Apache-2.0
"""`[plugins.sync_etcd]`."""

from __future__ import annotations

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from galelb import forwarder
from galelb.config.problems import KeyProblemError
from galelb.config.types import Folder, at_least, at_most
from galelb.durations import Duration
from galelb.group.key_file import KeyFileError, read_keys

__all__ = ["EtcdOptions"]


def _endpoint(text: str) -> str:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError('must be like "http://192.0.2.1:2379"') from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError('must be like "http://192.0.2.1:2379"')
    if parts.username or parts.password or parts.query or parts.path not in ("", "/"):
        raise ValueError("must be scheme, host and port only; see username and password_file")
    return text.rstrip("/")


def _prefix(text: str) -> str:
    text = text.strip("/")
    if not text or not text.isprintable() or len(text.encode()) > 128:
        raise ValueError("must be 1 to 128 printable characters")
    return text


class EtcdOptions(forwarder.Options):
    """`[plugins.sync_etcd]`."""

    endpoints: Annotated[tuple[Annotated[str, AfterValidator(_endpoint)], ...], Field(strict=False)]
    """Where etcd is, such as ["http://192.0.2.1:2379"]; when one fails, the next is tried."""
    prefix: Annotated[str, AfterValidator(_prefix)] = "galelb"
    """What the keys of this group begin with in etcd; another one for each group."""
    group_key_file: Folder
    """File with the group's keys (`galelb group-key`) for other streams between balancers, the
    same on all of them; read again on reload. etcd never sees them."""
    username: str = ""
    """User of etcd, if it asks for one."""
    password_file: Folder | None = None
    """File whose first line is the user's password."""
    ca_file: Folder | None = None
    """Certificates that etcd's own must be signed by; the system's when it is not set."""
    cert_file: Folder | None = None
    """This balancer's certificate, if etcd asks for one."""
    key_file: Folder | None = None
    """The private key of cert_file."""
    lease_ttl: Annotated[Duration, at_least("2s"), at_most("1m")] = 3.0
    """A balancer that etcd has not heard of for so long is dead; rounded up to whole seconds."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if not 1 <= len(self.endpoints) <= 16:
            raise KeyProblemError("must name 1 to 16 addresses of etcd", "endpoints")
        if bool(self.username) != (self.password_file is not None):
            raise KeyProblemError("username and password_file need each other", "username")
        if (self.cert_file is None) != (self.key_file is None):
            raise KeyProblemError("cert_file and key_file need each other", "cert_file")
        for key in ("password_file", "ca_file", "cert_file", "key_file"):
            path = getattr(self, key)
            if path is not None and not path.is_file():
                raise KeyProblemError(f"{path}: is no file", key)
        self._check_certificates()
        try:
            read_keys(self.group_key_file)
        except KeyFileError as error:
            raise KeyProblemError(str(error), "group_key_file") from None
        return self

    def _check_certificates(self) -> None:
        if any(endpoint.startswith("https:") for endpoint in self.endpoints):
            from galelb_plugins.sync_etcd.tls import tls_context

            tls_context(self.ca_file, self.cert_file, self.key_file)
            return
        for key in ("ca_file", "cert_file"):
            if getattr(self, key) is not None:
                raise KeyProblemError("needs endpoints that begin with https:", key)
