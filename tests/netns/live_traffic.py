# SPDX-License-Identifier: Apache-2.0
"""Live traffic for tests of restarts: `echo PORT` answers, `talk ADDRESS TCP UDP` asks and counts.

Runs as a script in a namespace. `talk` prints "ready" once every connection was answered, talks
until its input ends, and prints one JSON object: what was sent, lost, broken, and the longest
wait in seconds. Held connections and UDP flows last from first to last; fresh ones begin all the
time.
"""

import asyncio
import contextlib
import json
import socket
import sys
import time

HELD, FRESH, FLOWS = 40, 3, 8
BETWEEN_S = {"held": 0.02, "fresh": 0.02, "udp": 0.004}
ROUNDS = 2 * HELD
"""So many more of each kind after the end was asked for: each held connection is used again."""
PATIENCE_S = 10.0
"""A SYN that is dropped is sent again after 1 s and 3 s; what takes longer is broken."""
BUFFER = 1 << 23
SO_RCVBUFFORCE = 33  # Linux; Python has no name for it


def _large(sock):
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    return sock


def _say(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


# the node


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


async def _answer(reader, writer):
    with contextlib.suppress(ConnectionError):
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    writer.close()


async def echo(port):
    """Answer every line over TCP and every datagram over UDP with itself."""
    server = await asyncio.start_server(_answer, "0.0.0.0", port, backlog=1024)
    sock = _large(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.bind(("0.0.0.0", port))
    await asyncio.get_running_loop().create_datagram_endpoint(Echo, sock=sock)
    _say("ready")
    await server.serve_forever()


# the client


class Flow(asyncio.DatagramProtocol):
    """One UDP flow: its datagrams have numbers, and come back."""

    def __init__(self):
        self.sent = 0
        self.back = set()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.back.add(int(data))

    def error_received(self, error):
        pass  # the answer is missing then, and that counts

    def send(self):
        self.transport.sendto(b"%d" % self.sent)
        self.sent += 1


class Talk:
    def __init__(self, address, tcp, udp):
        self.address, self.tcp, self.udp = address, tcp, udp
        self.asked = {"held": 0, "fresh": 0}
        self.errors = {"held": [], "fresh": []}
        self.longest = {"held": 0.0, "fresh": 0.0}
        self.stop = asyncio.Event()

    async def run(self):
        flows = [await self._flow() for _ in range(FLOWS)]
        held = [await self._open() for _ in range(HELD)]
        tasks = [asyncio.create_task(self._hold(*one)) for one in held]
        tasks += [asyncio.create_task(self._begin()) for _ in range(FRESH)]
        tasks += [asyncio.create_task(self._send(flow)) for flow in flows]
        _say("ready")
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await self._enough(flows)
        self.stop.set()
        await asyncio.gather(*tasks)
        await self._stragglers(flows)
        sent, back = sum(flow.sent for flow in flows), sum(len(flow.back) for flow in flows)
        told = {"asked": self.asked, "errors": self.errors, "longest_s": self.longest}
        _say(json.dumps({"udp_sent": sent, "udp_lost": sent - back, **told}))

    async def _flow(self):
        sock = _large(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.connect((self.address, self.udp))
        loop = asyncio.get_running_loop()
        return (await loop.create_datagram_endpoint(Flow, sock=sock))[1]

    async def _open(self):
        async with asyncio.timeout(PATIENCE_S):
            pair = await asyncio.open_connection(self.address, self.tcp)
            await self._ask("held", *pair)
        return pair

    async def _ask(self, kind, reader, writer):
        self.asked[kind] += 1
        line = b"%s %d\n" % (kind.encode(), self.asked[kind])
        writer.write(line)
        if await reader.readline() != line:
            raise ConnectionError("another answer, or the end")

    async def _hold(self, reader, writer):
        while not self.stop.is_set():
            if not await self._timed("held", self._ask("held", reader, writer)):
                return
            await asyncio.sleep(BETWEEN_S["held"])

    async def _begin(self):
        async def whole():
            reader, writer = await asyncio.open_connection(self.address, self.tcp)
            try:
                await self._ask("fresh", reader, writer)
            finally:
                writer.close()

        while not self.stop.is_set():
            await self._timed("fresh", whole())
            await asyncio.sleep(BETWEEN_S["fresh"])

    async def _timed(self, kind, work):
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await work
        except (OSError, TimeoutError) as error:
            self.errors[kind].append(repr(error))
            return False
        finally:
            self.longest[kind] = max(self.longest[kind], time.monotonic() - began)
        return True

    async def _send(self, flow):
        while not self.stop.is_set():
            flow.send()
            await asyncio.sleep(BETWEEN_S["udp"])

    async def _enough(self, flows):
        """Talk on until it is sure that nothing was broken unnoticed."""
        seen = [(one, one.sent) for one in flows]
        asked = dict(self.asked)
        while any(one.sent < before + ROUNDS for one, before in seen) or any(
            self.asked[kind] < asked[kind] + ROUNDS and not self.errors[kind] for kind in asked
        ):
            await asyncio.sleep(0.01)

    async def _stragglers(self, flows):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                while any(len(flow.back) < flow.sent for flow in flows):
                    await asyncio.sleep(0.01)


if __name__ == "__main__":
    if sys.argv[1] == "echo":
        asyncio.run(echo(int(sys.argv[2])))
    else:
        asyncio.run(Talk(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])).run())
