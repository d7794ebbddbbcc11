# SPDX-License-Identifier: Apache-2.0
"""A real etcd on loopback, and a door between one balancer and it that can be closed."""

import ctypes
import shutil
import signal
import socket
import ssl
import subprocess
from contextlib import asynccontextmanager

import httpx
import trio


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def die_with_the_test():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Etcd:
    """Can be stopped and started again with the same data and port."""

    def __init__(self, directory, host="127.0.0.1", certificates=None, more=()):
        self.port, peer = free_port(), free_port()
        self.url = f"http{'s' if certificates else ''}://{host}:{self.port}"
        self._tls = False
        self._data = directory / "etcd.data"
        self._log = directory / "etcd.log"
        alone = f"http://127.0.0.1:{peer}"
        self._command = ["etcd", "--data-dir", str(self._data)]
        self._command += ["--listen-client-urls", self.url, "--advertise-client-urls", self.url]
        self._command += ["--listen-peer-urls", alone, "--initial-advertise-peer-urls", alone]
        self._command += ["--initial-cluster", f"default={alone}"]
        self._command += more
        if certificates is not None:
            self._tls = ssl.create_default_context(cafile=certificates.ca)
            self._tls.load_cert_chain(certificates.cert, certificates.key)
            self._command += ["--cert-file", certificates.cert, "--key-file", certificates.key]
            self._command += ["--trusted-ca-file", certificates.ca, "--client-cert-auth"]
        self._process = None

    async def start(self):
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, preexec_fn=die_with_the_test
            )
        async with httpx.AsyncClient(trust_env=False, verify=self._tls) as client:
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

    def lose_data(self):
        """Begin as an empty one next time."""
        shutil.rmtree(self._data)

    async def ask(self, path, body):
        async with httpx.AsyncClient(trust_env=False, verify=self._tls, timeout=20) as client:
            answer = await client.post(f"{self.url}/v3/{path}", json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()


@asynccontextmanager
async def running_etcd(directory, **how):
    etcd = Etcd(directory, **how)
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
        self._silenced = set()
        self._watches = set()

    def shut(self):
        self._open = False
        for scope in self._scopes:
            scope.cancel()

    def open(self):
        self._open = True

    def silence_watches(self):
        """Let nothing pass on streams of changes that are open, which stay open."""
        self._silenced |= self._watches

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
                    nursery.start_soon(self._copy, client, server, scope)
                    nursery.start_soon(self._copy, server, client, scope)
            except OSError:
                pass
            finally:
                self._scopes.discard(scope)

    async def _copy(self, source, sink, scope):
        try:
            async for data in source:
                if b"/v3/watch" in data:
                    self._watches.add(scope)
                if scope not in self._silenced:
                    await sink.send_all(data)
        except trio.BrokenResourceError:
            pass
        scope.cancel()
