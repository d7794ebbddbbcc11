# SPDX-License-Identifier: Apache-2.0
"""A stream between two balancers after its handshake: whole messages, sealed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from galelb.group.handshake import HELLO_BYTES, LENGTH_BYTES, PROOF_BYTES, Frames, Handshake
from galelb.group.reader import Unreadable

if TYPE_CHECKING:
    from trio.abc import Stream

__all__ = ["SealedStream", "meet"]

_CHUNK = 1 << 16


class SealedStream:
    """Carries messages to and from a balancer that has proved to be of the group.

    Resource handling: closing the stream below is left to who opened it. One task may send while
    another receives; a cancelled `send` or `receive` leaves the stream unusable.
    """

    def __init__(self, stream: Stream, frames: Frames, peer: str, epoch: bytes) -> None:
        self.peer = peer
        """The other side's name."""
        self.epoch = epoch
        """Random bytes that are new at each start of the other side."""
        self._stream = stream
        self._frames = frames

    async def send(self, message: bytes) -> None:
        """Send one message. Raises trio.BrokenResourceError when the stream is broken."""
        await self._stream.send_all(self._frames.seal(message))

    async def receive(self) -> bytes | None:
        """Return the next message; None when the other side has ended the stream after one.

        Raises:
            Unreadable: what came is not what the other side sent next, or ends amid a frame.
            trio.BrokenResourceError: the stream is broken.
        """
        prefix = await _take(self._stream, LENGTH_BYTES)
        if not prefix:
            return None
        length = self._frames.length(_whole(prefix, LENGTH_BYTES))
        return self._frames.open(_whole(await _take(self._stream, length), length))


async def meet(stream: Stream, handshake: Handshake, most: int) -> SealedStream:
    """Do the handshake on a new stream; return it for messages of at most `most` bytes.

    Until it returns, a stranger costs `HELLO_BYTES` and `PROOF_BYTES` of memory, and as much time
    as the caller allows it.

    Raises:
        Unreadable: the other side is not of the group.
        trio.BrokenResourceError: the stream is broken.
    """
    await stream.send_all(handshake.hello)
    hello = await _take(stream, HELLO_BYTES)
    await stream.send_all(handshake.proof(bytes(hello)))
    proof = await _take(stream, PROOF_BYTES)
    peer, epoch = handshake.verify(bytes(proof))
    return SealedStream(stream, handshake.frames(most), peer, epoch)


async def _take(stream: Stream, count: int) -> bytearray:
    """Return the next `count` bytes, or fewer if the stream ends before."""
    data = bytearray()
    while len(data) < count:
        part = await stream.receive_some(min(count - len(data), _CHUNK))
        if not part:
            break
        data += part
    return data


def _whole(data: bytearray, count: int) -> bytes:
    if len(data) < count:
        raise Unreadable("truncated")
    return bytes(data)
