# SPDX-License-Identifier: Apache-2.0
"""The challenge at the start of each TCP stream, and the frames that follow it.

Both sides send random bytes and prove with a shared key that they saw the other's, so neither a
recorded handshake nor a recorded epoch can be used again. Sans-IO: bytes in, bytes out.
"""

from __future__ import annotations

import hmac
import struct

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from galelb_plugins.sync_gossip.messages import Message
from galelb_plugins.sync_gossip.reader import Reader, Unreadable
from galelb_plugins.sync_gossip.seal import EPOCH_BYTES
from galelb_plugins.sync_gossip.wire import MAX_NAME, MAX_SNAPSHOT, VERSION, decode, encode

from galelb.group.keys import KeyRing, Nonces

__all__ = ["CHALLENGE_BYTES", "HELLO_BYTES", "MAX_FRAME", "PROOF_BYTES", "Frames", "Handshake"]

CHALLENGE_BYTES = 32
PROOF_BYTES = 32
_HELLO = struct.Struct(f"!BB{EPOCH_BYTES}s{CHALLENGE_BYTES}s{1 + MAX_NAME}s")
HELLO_BYTES = _HELLO.size
"""Names are filled up with zeros, so that a reader knows how much to read."""
MAX_FRAME = MAX_SNAPSHOT + 16
"""Bytes behind the four that say how many they are."""


@attrs.frozen
class _Hello:
    key: int
    epoch: bytes
    name: str


class Handshake:
    """One side of one stream. Both send `hello`, then `proof`, and are done after `verify`.

    `challenge` must be `CHALLENGE_BYTES` random bytes, new for each stream. The side that connected
    (`connects`) chooses the key. Whatever raises ends the stream.
    """

    def __init__(
        self, name: str, epoch: bytes, ring: KeyRing, challenge: bytes, *, connects: bool
    ) -> None:
        self._name = name
        self._ring = ring
        self._connects = connects
        padded = bytes([len(name.encode())]) + name.encode()
        self.hello = _HELLO.pack(VERSION, ring.used, epoch, challenge, padded)
        """What is sent first."""
        self._key = ring.used
        self._peer: _Hello | None = None
        self._transcript = b""
        self._verified = False

    def proof(self, hello: bytes) -> bytes:
        """Take the other side's hello; return what is sent next.

        Raises:
            Unreadable: it is no hello, or one of a stranger or of oneself.
        """
        peer = _read_hello(hello)
        if peer.name == self._name:
            raise Unreadable("reflected")
        self._key = self._key if self._connects else peer.key
        if self._key not in self._ring.keys:
            raise Unreadable("unknown_key")
        self._peer = peer
        ours, theirs = self.hello, hello
        self._transcript = ours + theirs if self._connects else theirs + ours
        return self._proof(of_connector=self._connects)

    def verify(self, proof: bytes) -> tuple[str, bytes]:
        """Take the other side's proof; return its name and epoch, for `Seal.admit`.

        Raises:
            Unreadable: it has not the key.
        """
        assert self._peer is not None, "the hello comes before the proof"
        if not hmac.compare_digest(proof, self._proof(of_connector=not self._connects)):
            raise Unreadable("not_authentic")
        self._verified = True
        return self._peer.name, self._peer.epoch

    def frames(self) -> Frames:
        """Return what seals and opens the messages of this stream."""
        assert self._verified, "nothing is said before the other side has proved itself"
        ways = [
            self._ring.cipher(self._key, purpose, self._transcript)
            for purpose in (b"from connector", b"to connector")
        ]
        return Frames(*(ways if self._connects else reversed(ways)))

    def _proof(self, *, of_connector: bool) -> bytes:
        purpose = b"proof of connector" if of_connector else b"proof of listener"
        return self._ring.derive(self._key, purpose, self._transcript)


class Frames:
    """Messages of one stream, in order: a frame that is missing, doubled or moved does not open."""

    def __init__(self, outgoing: ChaCha20Poly1305, incoming: ChaCha20Poly1305) -> None:
        self._outgoing, self._incoming = outgoing, incoming
        self._sent, self._received = Nonces(), Nonces()

    def seal(self, message: Message) -> bytes:
        """Return a frame: four bytes of length, then as many."""
        sealed = self._outgoing.encrypt(_nonce(self._sent), encode(message), None)
        return len(sealed).to_bytes(4, "big") + sealed

    def open(self, sealed: bytes) -> Message:
        """Return the message in a frame, without its length, of at most `MAX_FRAME` bytes.

        Raises:
            Unreadable: it is not what the other side sent next.
        """
        if len(sealed) > MAX_FRAME:
            raise Unreadable("oversized")
        try:
            plain = self._incoming.decrypt(_nonce(self._received), sealed, None)
        except InvalidTag:
            raise Unreadable("not_authentic") from None
        return decode(plain, MAX_SNAPSHOT)


def _nonce(nonces: Nonces) -> bytes:
    return nonces.next().to_bytes(12, "big")


def _read_hello(data: bytes) -> _Hello:
    if len(data) != HELLO_BYTES:
        raise Unreadable("truncated")
    version, key, epoch, _, padded = _HELLO.unpack(data)
    if version != VERSION:
        raise Unreadable("unknown_version")
    return _Hello(key, epoch, Reader(padded).text(MAX_NAME))
