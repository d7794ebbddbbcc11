# SPDX-License-Identifier: Apache-2.0
"""A client that means harm, in a process of its own.

Usage: hostile_client.py PORT ATTACK. Prints a line once the attack goes on; when standard input
is closed it stops, and prints how often it did what it does.
"""

import contextlib
import itertools
import os
import random
import resource
import select
import socket
import struct
import sys

import h2.config
import h2.connection

from galelb.grpc.framing import encode_message, request_headers

PORT = int(sys.argv[1])
REPORT = "/LBNodeManager/ReportHealthStatus"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST, SETTINGS, PING, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 8, 9


def frame(kind, flags=0, stream_id=0, payload=b""):
    return (
        struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream_id) + payload
    )


GREETING = PREFACE + frame(SETTINGS)


def opening(streams=1):
    """Return bytes that greet and begin streams of reports."""
    conn = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
    conn.initiate_connection()
    for _ in range(streams):
        conn.send_headers(conn.get_next_available_stream_id(), request_headers(REPORT, "x"))
    return conn.data_to_send()


def connect(source="127.0.0.1"):
    sock = socket.socket()
    sock.settimeout(5)
    sock.bind((source, 0))
    sock.connect(("127.0.0.1", PORT))
    return sock


def over():
    return bool(select.select([sys.stdin], [], [], 0)[0])


def flood(begin, piece, connections=8):
    """Send `piece` over and over on several connections, never reading; renew those that end."""
    socks = {}
    for turn in itertools.count():
        if turn % 64 == 0 and over():
            return
        slot = turn % connections
        try:
            if slot not in socks:
                socks[slot] = connect()
                socks[slot].sendall(begin)
                socks[slot].setblocking(False)
            socks[slot].send(piece)
        except BlockingIOError:
            pass  # it waits, as it should
        except OSError:
            socks.pop(slot).close() if slot in socks else None
        yield


def garbage():
    rng = random.Random(1)
    yield from flood(b"", rng.randbytes(4096))


def garbage_after_the_greeting():
    yield from flood(GREETING, random.Random(2).randbytes(4096))


def pings():
    yield from flood(GREETING, frame(PING, payload=b"floodddd") * 1000)


def window_updates():
    yield from flood(opening(), frame(WINDOW, stream_id=1, payload=b"\0\0\0\1") * 1000)


def settings():
    yield from flood(GREETING, frame(SETTINGS) * 1000)


def empty_data():
    yield from flood(opening(), frame(DATA, stream_id=1) * 1000)


def unknown_frames():
    yield from flood(GREETING, frame(0xBB) * 1000)


def endless_headers():
    begin = GREETING + frame(HEADERS, 0, 1, b"\0")
    yield from flood(begin, frame(CONTINUATION, 0, 1, b"\0" * 100) * 30)


def rapid_resets():
    socks = {}
    for turn in itertools.count():
        if turn % 16 == 0 and over():
            return
        try:
            sock = socks.setdefault(turn % 8, None) or connect()
            socks[turn % 8] = None
            conn = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
            conn.initiate_connection()
            for _ in range(100):
                stream_id = conn.get_next_available_stream_id()
                conn.send_headers(stream_id, request_headers(REPORT, "x"))
                conn.reset_stream(stream_id)
            sock.sendall(conn.data_to_send())
            sock.close()
        except OSError:
            pass
        yield


def too_long_messages():
    piece = frame(DATA, 0, 1, b"\0\xff\xff\xff\xff" + b"x" * 1000)
    yield from flood(opening(), piece)


def too_long_frames():
    yield from flood(GREETING, frame(DATA, 0, 1, b"x" * (1 << 20)))


def reports():
    """Good reports, on many streams, as fast as they go; answers are never read."""
    data = encode_message(b"\x0a\x01s")
    piece = b"".join(frame(DATA, 0, 1 + 2 * (n % 100), data) for n in range(1000))
    yield from flood(opening(100), piece)


def one_byte_at_a_time():
    """Many connections that seem to begin, for ever."""
    greeting = opening()
    while not over():
        socks = []
        with contextlib.suppress(OSError):
            socks += [connect() for _ in range(32)]
        for at in range(len(greeting)):
            for sock in socks:
                with contextlib.suppress(OSError):
                    sock.send(greeting[at : at + 1])
            yield
            if over():
                return
        for sock in socks:
            sock.close()


def new_connections():
    while not over():
        with contextlib.suppress(OSError):
            connect().close()
        yield


def ten_thousand_connections():
    """Half of them greet, then all are silent."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held = []
    for number in range(min(10_000, hard - 100)):
        sock = connect(f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}")
        if number % 2:
            sock.send(GREETING)
        held.append(sock)
    yield
    while not over():
        select.select([sys.stdin], [], [])
    yield


def main():
    done = 0
    for _ in globals()[sys.argv[2]]():
        if not done:
            os.write(1, b"attacking\n")
        done += 1
    os.write(1, f"{done}\n".encode())


main()
