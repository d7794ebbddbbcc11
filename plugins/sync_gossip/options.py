# SPDX-License-Identifier: Apache-2.0
"""`[plugins.sync_gossip]`, and which keys it means."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from galelb import forwarder
from galelb.config.problems import KeyProblemError
from galelb.config.types import Folder, at_least, at_most
from galelb.durations import Duration
from galelb.errors import GaleError
from galelb.group.key_file import KeyFileError, load_ring, read_keys
from galelb.model import IPAddress

if TYPE_CHECKING:
    from galelb.group.keys import KeyRing
    from galelb.transport import TransportContext

__all__ = ["GossipOptions", "choose_ring", "needs_key"]

_NEEDS_KEY = (
    "it talks to other machines and has no key: make one with `galelb group-key new FILE`,"
    " give it to all balancers and name it in key_file of [plugins.sync_gossip]; or set insecure ="
    " true, if nobody else can reach their network"
)
_PUBLIC_KEY = b"galelb: a key that all know, so "
"""What encrypts without a key: it keeps strays apart, and nobody out."""


class GossipOptions(forwarder.Options):
    """`[plugins.sync_gossip]`."""

    key_file: Folder | None = None
    """File with the group's keys (`galelb group-key`), the same on all balancers; read again on
    reload. Needed once balancers are on several machines."""
    insecure: bool = False
    """Do without a key: whoever can reach the balancers' network can change what they believe."""
    probe_interval: Annotated[Duration, at_least("50ms"), at_most("10s")] = 0.2
    """From one probe of a peer to the next, in groups of up to ten; the same on all balancers. A
    death is known in about four of them."""
    suspicion_periods: Annotated[float, Field(ge=1, le=20)] = 2.0
    """Probe intervals that a suspect has at least to prove that it lives. More of them forgive
    slower machines, and let clients wait longer for a takeover."""
    forget_after: Annotated[Duration, at_least("1m")] = 86400.0
    """Peers that are dead or have left, and what they said, are forgotten after this long."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.key_file is not None:
            if self.insecure:
                raise KeyProblemError("means nothing beside key_file: remove one", "insecure")
            try:
                read_keys(self.key_file)
            except KeyFileError as error:
                raise KeyProblemError(str(error), "key_file") from None
        return self


def needs_key(options: GossipOptions, hosts: Collection[IPAddress]) -> str:
    """Return what is wrong if members at these hosts, one's own among them, have no key."""
    here = len(hosts) <= 1 or all(host.is_loopback for host in hosts)
    return "" if options.key_file or options.insecure or here else _NEEDS_KEY


def choose_ring(
    options: GossipOptions, context: TransportContext, before: KeyRing | None = None
) -> KeyRing:
    """Return the keys that the options mean; `before`: those in use. Blocks on the disk.

    Raises:
        GaleError: the key file cannot be used, or one is needed.
    """
    from galelb.group.keys import KeyRing

    if options.key_file is not None:
        return load_ring(options.key_file)
    hosts = {context.address, *(host for host, _ in context.peers)}
    if problem := needs_key(options, hosts):
        raise GaleError(f"sync_gossip: {problem}")
    alone = not context.peers
    if alone and not options.insecure:
        from galelb.group.key_file import create_keys

        # Nobody is expected: nobody gets in.
        return before or KeyRing({0: create_keys()[0].secret}, 0)
    return KeyRing({0: _PUBLIC_KEY}, 0)
