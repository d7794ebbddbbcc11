# SPDX-License-Identifier: Apache-2.0
"""Sends HTTP requests at a steady rate and prints one JSON line for what became of each.

It runs on the client as `python3 -c`, so it needs nothing but Python's own library, and it ends
when its standard input does. Nothing is tried twice.
"""

import http.client
import itertools
import json
import os
import sys
import threading
import time
from typing import Any

__all__: list[str] = []

WORKERS = 64
"""As many requests may be under way at once, so that some that hang do not slow the others down."""

stopped = threading.Event()
printing = threading.Lock()


def tell(**facts: object) -> None:
    """Print a line; os.write, so that no reader waits for a buffer to fill."""
    line = json.dumps(facts) + "\n"
    with printing:
        os.write(1, line.encode())


def name_in(body: bytes) -> str:
    """Return who answered: `node` of a JSON object, else the first line of the text."""
    text = body.decode(errors="replace").strip()
    try:
        return str(json.loads(text)["node"])
    except (ValueError, KeyError, TypeError):
        return text.partition("\n")[0]


def cause_of(error: BaseException) -> str:
    """Return an error in a word or two."""
    if isinstance(error, http.client.RemoteDisconnected):
        return "closed"
    return str(error) if isinstance(error, NotGoodError) else type(error).__name__


class NotGoodError(Exception):
    """An answer came, but it is not what it has to be."""


def request(connection: http.client.HTTPConnection, path: str) -> tuple[str, bool]:
    """Return who answered, and whether the connection lives on. Raises OSError and others."""
    connection.request("GET", path)
    answer = connection.getresponse()
    closes, body = answer.will_close, answer.read()
    if answer.status != 200:
        raise NotGoodError(f"status {answer.status}")
    return name_in(body), not closes


def open_to(target: list[object], timeout: float) -> http.client.HTTPConnection:
    """Connect; a failure that takes as long as `timeout` is told from one of the answer."""
    connection = http.client.HTTPConnection(str(target[0]), int(str(target[1])), timeout=timeout)
    try:
        connection.connect()
    except TimeoutError:
        raise NotGoodError("no connection") from None
    return connection


Job = dict[str, Any]


def fresh(targets: list[list[object]], numbers: "itertools.count[int]", job: Job) -> None:
    """Send each request on a connection of its own, when its turn has come."""
    for number in numbers:
        if job["count"] is not None and number >= job["count"]:
            return
        due = job["begin"] + number / job["rate"]
        if stopped.wait(max(0.0, due - time.monotonic())):
            return
        target, node, error, start = targets[number % len(targets)], "", None, time.monotonic()
        try:
            connection = open_to(target, job["timeout"])
            try:
                node, _ = request(connection, job["path"])
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, NotGoodError) as problem:
            error = cause_of(problem)
        tell(kind="fresh", target=target, node=node, error=error, took=time.monotonic() - start)


def kept(target: list[object], job: Job) -> None:
    """Use one connection again and again; what breaks it is told, and it is not opened again."""
    start, first, connection = time.monotonic(), "", None
    try:
        connection = open_to(target, job["timeout"])
        first, lives = request(connection, job["path"])
        tell(kind="kept", target=target, node=first, error=None, took=time.monotonic() - start)
        if not lives:
            tell(kind="unkept", target=target, node=first, error=None, took=0.0)
            return
        while not stopped.wait(job["kept_every"]):
            start = time.monotonic()
            node, lives = request(connection, job["path"])
            if node != first or not lives:
                raise NotGoodError(f"{first} became {node}" if lives else "closed")
            tell(kind="kept", target=target, node=node, error=None, took=time.monotonic() - start)
    except (OSError, http.client.HTTPException, NotGoodError) as problem:
        took = time.monotonic() - start
        tell(kind="kept", target=target, node=first, error=cause_of(problem), took=took)
    finally:
        if connection is not None:
            connection.close()


def main() -> None:
    """Do what the JSON object in the first argument asks for."""
    job = json.loads(sys.argv[1])
    targets, numbers = job["targets"], itertools.count()
    holders = [
        threading.Thread(target=kept, args=(targets[number % len(targets)], job), daemon=True)
        for number in range(job["kept"])
    ]
    job["begin"] = time.monotonic()
    workers = [
        threading.Thread(target=fresh, args=(targets, numbers, job), daemon=True)
        for _ in range(WORKERS if job["rate"] else 0)
    ]
    threads = holders + workers
    for thread in threads:
        thread.start()
    if job["count"] is None:
        while os.read(0, 4096):
            pass
        stopped.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
