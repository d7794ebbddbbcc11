# SPDX-License-Identifier: Apache-2.0
"""A real etcd on loopback, and a door between one balancer and it that can be closed."""

import socket
import subprocess
from contextlib import asynccontextmanager

import httpx
import trio


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Etcd:
    """Can be stopped and started again with the same data and port."""

    def __init__(self, directory):
        self.port, peer = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = directory / "etcd.log"
        alone = f"http://127.0.0.1:{peer}"
        self._command = ["etcd", "--data-dir", str(directory / "etcd.data")]
        self._command += ["--listen-client-urls", self.url, "--advertise-client-urls", self.url]
        self._command += ["--listen-peer-urls", alone, "--initial-advertise-peer-urls", alone]
        self._command += ["--initial-cluster", f"default={alone}"]
        self._process = None

    async def start(self):
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        async with httpx.AsyncClient(trust_env=False) as client:
            while True:
                try:
                    if (await client.get(f"{self.url}/health")).json()["health"] == "true":
                        return
                except (httpx.HTTPError, ValueError, KeyError):
                    assert self._process.poll() is None, self._log.read_text()[-2000:]
                await trio.sleep(0.02)

    def stop(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def ask(self, path, body):
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            answer = await client.post(f"{self.url}/v3/{path}", json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()


@asynccontextmanager
async def running_etcd(directory):
    etcd = Etcd(directory)
    try:
        await etcd.start()
        yield etcd
    finally:
        etcd.stop()


class Door:
    """Passes connections on to a port, until it is closed; also those that are open then."""

    def __init__(self, target):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.target = target
        self._open = True
        self._scopes = set()

    def shut(self):
        self._open = False
        for scope in self._scopes:
            scope.cancel()

    def open(self):
        self._open = True

    async def run(self, *, task_status):
        await trio.serve_tcp(self._pass, self.port, host="127.0.0.1", task_status=task_status)

    async def _pass(self, client):
        if not self._open:
            return
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                server = await trio.open_tcp_stream("127.0.0.1", self.target)
                async with server, trio.open_nursery() as nursery:
                    nursery.start_soon(_copy, client, server, scope)
                    nursery.start_soon(_copy, server, client, scope)
            except OSError:
                pass
            finally:
                self._scopes.discard(scope)


async def _copy(source, sink, scope):
    try:
        async for data in source:
            await sink.send_all(data)
    except trio.BrokenResourceError:
        pass
    scope.cancel()
