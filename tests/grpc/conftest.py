# SPDX-License-Identifier: Apache-2.0
"""A raw HTTP/2 peer on a memory stream: it can do what no good client does."""

from types import SimpleNamespace

import h2.config
import h2.connection
import h2.events
import pytest
import trio
import trio.testing

from galelb.grpc.framing import request_headers


class RawClient:
    """One connection of our server, driven frame by frame."""

    def __init__(self, stream):
        self.stream = stream
        self.conn = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        self.events = []
        self.eof = False

    async def greet(self):
        self.conn.initiate_connection()
        await self.flush()

    async def flush(self):
        await self.stream.send_all(self.conn.data_to_send())

    async def call(self, path, data=None, *, end=False, extra=()):
        stream_id = self.conn.get_next_available_stream_id()
        self.conn.send_headers(stream_id, [*request_headers(path, "test"), *extra])
        if data is not None:
            self.conn.send_data(stream_id, data, end_stream=end)
        await self.flush()
        return stream_id

    async def read(self):
        """Take what the server sent; returns the new events."""
        try:
            data = await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self.eof = True
            return []
        new = self.conn.receive_data(bytes(data))
        self.events += new
        return new

    async def read_until(self, kind):
        """Read until an event of a kind comes; returns it."""
        while True:
            for event in self.events:
                if isinstance(event, kind):
                    self.events.remove(event)
                    return event
            await self.read()
            if self.eof:
                raise EOFError(f"closed before {kind.__name__}: {self.events}")

    async def read_all(self):
        """Read until the server closes."""
        while not self.eof:
            await self.read()
        return self.events


def connect(nursery, server, address):
    """Connect a raw client to a server in memory."""
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(server.serve_stream, theirs, address)
    return RawClient(ours)


@pytest.fixture
def peer():
    """RawClient, and how to connect one."""
    return SimpleNamespace(RawClient=RawClient, connect=connect)
