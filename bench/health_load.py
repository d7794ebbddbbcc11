# SPDX-License-Identifier: Apache-2.0
"""The nodes of the benchmark `health`: PORT STREAMS SECONDS; one report per second and stream.

Every node has an address and a connection of its own and writes frames that were prepared once, so
that the nodes of a whole data centre cost a fraction of a core.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import sys
import time

import attrs
import h2.config
import h2.connection
import h2.settings

from galelb.grpc.framing import encode_message, request_headers
from galelb.grpc.health_pb2 import HealthStatus

REPORT = "/LBNodeManager/ReportHealthStatus"
PERIOD_S = 1.0
_DATA, _SETTINGS, _PING = 0, 4, 6
_BAD = {3: "RST_STREAM", 7: "GOAWAY"}
_ACK = 1
_HUGE = 2**31 - 1


def opening() -> bytes:
    """Return what begins a connection and its stream of reports; windows never fill."""
    conn = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
    conn.local_settings = h2.settings.Settings(
        initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: _HUGE}
    )
    conn.initiate_connection()
    conn.increment_flow_control_window(_HUGE - 65535)
    conn.send_headers(1, request_headers(REPORT, "balancer"))
    return conn.data_to_send()


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """Return one HTTP/2 frame."""
    head = struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream_id)
    return head + payload


@attrs.define(eq=False)
class Node:
    """One node: its socket, what it sends, when it sent last."""

    sock: socket.socket
    report: bytes
    sent_at: float = 0.0
    waiting: int = 0
    answers: int = 0
    buffer: bytes = b""

    def read(self) -> int:
        """Take what came; returns the number of answers in it."""
        data = self.sock.recv(65536)
        if not data:
            raise RuntimeError("the server closed a connection")
        self.buffer += data
        before = self.answers
        while len(self.buffer) >= 9:
            length = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + length:
                break
            self._take(self.buffer[3], self.buffer[4], self.buffer[9 : 9 + length])
            self.buffer = self.buffer[9 + length :]
        return self.answers - before

    def _take(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == _DATA:
            self.answers += 1
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            self.sock.send(frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind in _BAD:
            raise RuntimeError(f"the server sent {_BAD[kind]}")


class Load:
    """All nodes."""

    def __init__(self, port: int, streams: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._begin = opening()
        self.nodes = [self._connect(port, number) for number in range(streams)]
        self.latencies: list[float] = []
        self.missed = 0

    def _connect(self, port: int, number: int) -> Node:
        sock = socket.socket()
        sock.bind((f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}", 0))
        sock.connect(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.send(self._begin)
        wire = HealthStatus(name=f"node-{number}", weight=10, load=0.5)
        data = encode_message(wire.SerializeToString())
        node = Node(sock, frame(_DATA, 0, 1, data))
        self._selector.register(sock, selectors.EVENT_READ, node)
        return node

    def run(self, seconds: float, period: float) -> None:
        """Report once per period from every node, evenly spread, for some time."""
        self.latencies, self.missed = [], 0
        gap = period / len(self.nodes)
        began = time.perf_counter()
        count = int(seconds / gap)
        for turn in range(count):
            self._read_until(began + turn * gap)
            self._send(self.nodes[turn % len(self.nodes)])
        self._read_until(time.perf_counter() + period)
        self.missed += sum(node.waiting > 0 for node in self.nodes)

    def _send(self, node: Node) -> None:
        self.missed += node.waiting > 0
        node.sent_at = time.perf_counter()
        node.waiting += 1
        node.sock.send(node.report)

    def _read_until(self, when: float) -> None:
        while True:
            left = when - time.perf_counter()
            for key, _ in self._selector.select(max(0.0, left)):
                node: Node = key.data
                answers = node.read()
                if answers:
                    self.latencies.append(time.perf_counter() - node.sent_at)
                    node.waiting = max(0, node.waiting - answers)
            if left <= 0:
                return


def say(found: object) -> None:
    """Print one JSON object."""
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Join, say so, report for the given time, print what was measured."""
    port, streams, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    load = Load(port, streams)
    load.run(5.0, PERIOD_S)  # enough to be routable, and for the first rush to be over
    say({"joined": len(load.nodes)})
    began = time.perf_counter()
    load.run(seconds, PERIOD_S)
    found = sorted(1000 * one for one in load.latencies)
    say(
        {
            "seconds": time.perf_counter() - began,
            "answers": len(found),
            "p50_ms": found[len(found) // 2],
            "p99_ms": found[len(found) * 99 // 100],
            "worst_ms": found[-1],
            "missed": load.missed,
        }
    )
    sys.stdin.read()  # stay until what the server uses is read


if __name__ == "__main__":
    main()
