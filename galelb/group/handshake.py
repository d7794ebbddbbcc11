# SPDX-License-Identifier: Apache-2.0
"""The challenge at the start of each TCP stream between balancers, and the frames that follow it.

Both sides send random bytes and prove with a shared key that they saw the other's, so neither a
recorded handshake nor a recorded epoch can be used again. Sans-IO: bytes in, bytes out.
The bytes are in docs/reference/gossip.md.
"""

from __future__ import annotations

import hmac
import struct

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from galelb.errors import LocalProtocolError
from galelb.group.keys import KeyRing, Nonces
from galelb.group.reader import MAX_NAME, Reader, Unreadable

__all__ = [
    "CHALLENGE_BYTES",
    "EPOCH_BYTES",
    "FRAME_OVERHEAD",
    "HELLO_BYTES",
    "LENGTH_BYTES",
    "MAX_NAME",
    "PROOF_BYTES",
    "Frames",
    "Handshake",
]

EPOCH_BYTES = 16
CHALLENGE_BYTES = 32
PROOF_BYTES = 32
LENGTH_BYTES = 4
"""What a frame begins with: how many bytes follow."""
FRAME_OVERHEAD = 16
"""Bytes that sealing adds, besides the length."""
_VERSION = 1
_HELLO = struct.Struct(f"!BB{EPOCH_BYTES}s{CHALLENGE_BYTES}s{1 + MAX_NAME}s")
HELLO_BYTES = _HELLO.size
"""Names are filled up with zeros, so that a reader knows how much to read."""


@attrs.frozen
class _Hello:
    key: int
    epoch: bytes
    name: str


class Handshake:
    """One side of one stream. Both send `hello`, then `proof`, and are done after `verify`.

    `purpose` says what the stream is for: both sides must mean the same, so a stream of one use
    cannot be led to a listener of another. `epoch` has `EPOCH_BYTES`, `challenge` must be
    `CHALLENGE_BYTES` random bytes, new for each stream. The side that connected (`connects`)
    chooses the key. Whatever raises ends the stream.
    """

    def __init__(
        self,
        name: str,
        epoch: bytes,
        ring: KeyRing,
        challenge: bytes,
        *,
        purpose: bytes,
        connects: bool,
    ) -> None:
        self._name = name
        self._ring = ring
        self._purpose = purpose
        self._connects = connects
        padded = bytes([len(name.encode())]) + name.encode()
        self.hello = _HELLO.pack(_VERSION, ring.used, epoch, challenge, padded)
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
        """Take the other side's proof; return its name and epoch.

        Raises:
            Unreadable: it has not the key.
        """
        assert self._peer is not None, "the hello comes before the proof"
        if not hmac.compare_digest(proof, self._proof(of_connector=not self._connects)):
            raise Unreadable("not_authentic")
        self._verified = True
        return self._peer.name, self._peer.epoch

    def frames(self, most: int) -> Frames:
        """Return what seals and opens the messages of this stream, of at most `most` bytes."""
        assert self._verified, "nothing is said before the other side has proved itself"
        ways = [
            self._ring.cipher(self._key, way, self._purpose, self._transcript)
            for way in (b"from connector", b"to connector")
        ]
        outgoing, incoming = ways if self._connects else reversed(ways)
        return Frames(outgoing, incoming, most)

    def _proof(self, *, of_connector: bool) -> bytes:
        whose = b"proof of connector" if of_connector else b"proof of listener"
        return self._ring.derive(self._key, whose, self._purpose, self._transcript)


class Frames:
    """Messages of one stream, in order: a frame that is missing, doubled or moved does not open.

    Messages have at most `most` bytes.
    """

    def __init__(self, outgoing: ChaCha20Poly1305, incoming: ChaCha20Poly1305, most: int) -> None:
        self._outgoing, self._incoming = outgoing, incoming
        self._sent, self._received = Nonces(), Nonces()
        self._most = most

    def seal(self, message: bytes) -> bytes:
        """Return a frame: `LENGTH_BYTES` of length, then as many bytes.

        Raises:
            LocalProtocolError: the message is too long.
        """
        if len(message) > self._most:
            raise LocalProtocolError(f"a message of {len(message)} bytes, at most {self._most}")
        sealed = self._outgoing.encrypt(_nonce(self._sent), message, None)
        return len(sealed).to_bytes(LENGTH_BYTES, "big") + sealed

    def length(self, prefix: bytes) -> int:
        """Take the first `LENGTH_BYTES` of a frame; return how many bytes follow.

        Raises:
            Unreadable: more than a frame may have; to be asked before they are read.
        """
        length = int.from_bytes(prefix, "big")
        if length > self._most + FRAME_OVERHEAD:
            raise Unreadable("oversized")
        return length

    def open(self, sealed: bytes) -> bytes:
        """Return the message in a frame, given without its length.

        Raises:
            Unreadable: it is not what the other side sent next.
        """
        if len(sealed) > self._most + FRAME_OVERHEAD:
            raise Unreadable("oversized")
        try:
            return self._incoming.decrypt(_nonce(self._received), sealed, None)
        except InvalidTag:
            raise Unreadable("not_authentic") from None


def _nonce(nonces: Nonces) -> bytes:
    return nonces.next().to_bytes(12, "big")


def _read_hello(data: bytes) -> _Hello:
    if len(data) != HELLO_BYTES:
        raise Unreadable("truncated")
    version, key, epoch, _, padded = _HELLO.unpack(data)
    if version != _VERSION:
        raise Unreadable("unknown_version")
    return _Hello(key, epoch, Reader(padded).text(MAX_NAME))
