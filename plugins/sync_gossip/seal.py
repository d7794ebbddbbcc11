# SPDX-License-Identifier: Apache-2.0
"""Datagrams that only the group can read and write, each of them once: docs/reference/gossip.md."""

from __future__ import annotations

import struct
from collections import Counter

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from galelb_plugins.sync_gossip.messages import Address, Message
from galelb_plugins.sync_gossip.replay import ReplayWindow
from galelb_plugins.sync_gossip.wire import MAX_DATAGRAM, MAX_NAME, VERSION, decode, encode

from galelb.group.handshake import EPOCH_BYTES
from galelb.group.keys import KeyRing, Nonces
from galelb.group.reader import Reader, Unreadable

__all__ = ["Seal"]

_PURPOSE = b"datagram"
_HEAD = struct.Struct(f"!BB{EPOCH_BYTES}sQ")


@attrs.define
class _Peer:
    """A peer since its latest proved start."""

    epoch: bytes
    window: ReplayWindow
    ciphers: dict[int, ChaCha20Poly1305] = attrs.field(factory=dict)


class Seal:
    """Seals and opens one member's datagrams; never raises for what others send.

    `epoch` must be `EPOCH_BYTES` random bytes, new at each start of the process. At most `peers`
    peers are known, since only those get in that have proved to hold a key.
    """

    def __init__(
        self, name: str, address: Address, ring: KeyRing, epoch: bytes, *, peers: int = 256
    ) -> None:
        self.drops: Counter[str] = Counter()
        """Datagrams that were not taken, by reason."""
        self._name = name
        self._address = _packed(address)
        self._ring = ring
        self._epoch = epoch
        self._nonces = Nonces()
        self._own = self._own_cipher()
        self._most_peers = peers
        self._unproved: set[str] = set()
        self._peers: dict[str, _Peer] = {}

    def change_keys(self, ring: KeyRing) -> None:
        """Use other keys from now on; what is sealed with one that is gone is dropped."""
        self._ring = ring
        self._own = self._own_cipher()
        for peer in self._peers.values():
            peer.ciphers.clear()

    @property
    def counter(self) -> int:
        """The number of the last datagram, to be told to who admits this member."""
        return self._nonces.last

    def admit(self, name: str, epoch: bytes, counter: int = 0) -> bool:
        """Take a peer's datagrams of this epoch from now on, and of no other.

        To be called with what a finished Handshake proves, and with the peer's `counter` as it
        says over that stream: datagrams up to that may have been seen before one's own restart.
        Return False if there is no room.
        """
        known = self._peers.get(name)
        if known is None and len(self._peers) >= self._most_peers:
            return False
        # The counters of an epoch that goes on have been seen.
        if known is None or known.epoch != epoch:
            self._peers[name] = _Peer(epoch, ReplayWindow(counter))
        return True

    def forget(self, name: str) -> None:
        """Take no datagrams of a peer any more."""
        self._peers.pop(name, None)

    def seal(self, address: Address, message: Message) -> bytes:
        """Return the datagram with a message for who is at that address."""
        counter = self._nonces.next()
        name = self._name.encode()
        head = _HEAD.pack(VERSION, self._ring.used, self._epoch, counter)
        head += bytes([len(name)]) + name
        # The address is not sent, but authenticated: a copy for somebody else does not open.
        return head + self._own.encrypt(_nonce(counter), encode(message), head + _packed(address))

    def open(self, data: bytes) -> tuple[str, Message] | None:
        """Return who says what in a datagram, None if it was dropped and counted."""
        try:
            return self.read(data)
        except Unreadable as error:
            self.drops[error.reason] += 1
            return None

    def take_unproved(self) -> set[str]:
        """Return who seems to have sent what is dropped until a challenge, and forget it.

        Anybody can claim to be them: `Swim.challenge` asks known members only, and not often.
        """
        unproved, self._unproved = self._unproved, set()
        return unproved

    def read(self, data: bytes) -> tuple[str, Message]:
        """Return who says what in a datagram; `open` without the counting.

        Raises:
            Unreadable: it is not taken; `reason` says why.
        """
        if len(data) > MAX_DATAGRAM:
            raise Unreadable("oversized")
        reader = Reader(data)
        version, key, epoch, counter = reader.unpack(_HEAD)
        if version != VERSION:
            raise Unreadable("unknown_version")
        name = reader.text(MAX_NAME)
        peer = self._peer(name, key, epoch)
        if not peer.window.is_new(counter):
            raise Unreadable("replayed")
        head, sealed = data[: reader.position], data[reader.position :]
        try:
            cipher = self._cipher(peer, name, key)
            plain = cipher.decrypt(_nonce(counter), sealed, head + self._address)
        except InvalidTag:
            raise Unreadable("not_authentic") from None
        peer.window.mark(counter)
        return name, decode(plain)

    def _peer(self, name: str, key: int, epoch: bytes) -> _Peer:
        if name == self._name:
            raise Unreadable("reflected")
        if key not in self._ring.keys:
            raise Unreadable("unknown_key")
        peer = self._peers.get(name)
        if peer is None or peer.epoch != epoch:
            if len(self._unproved) < self._most_peers:
                self._unproved.add(name)
            raise Unreadable("not_challenged" if peer is None else "stale_epoch")
        return peer

    def _cipher(self, peer: _Peer, name: str, key: int) -> ChaCha20Poly1305:
        if key not in peer.ciphers:
            peer.ciphers[key] = self._ring.cipher(key, _PURPOSE, name.encode(), peer.epoch)
        return peer.ciphers[key]

    def _own_cipher(self) -> ChaCha20Poly1305:
        return self._ring.cipher(self._ring.used, _PURPOSE, self._name.encode(), self._epoch)


def _nonce(counter: int) -> bytes:
    """The key is of one sender and one epoch, so the counter alone makes each nonce new."""
    return counter.to_bytes(12, "big")


def _packed(address: Address) -> bytes:
    host, port = address
    return host.packed + port.to_bytes(2, "big")
