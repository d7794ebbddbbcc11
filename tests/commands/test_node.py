# SPDX-License-Identifier: Apache-2.0
"""What `galelb node status`, `stop` and `start` print, and which agent they speak to."""

from __future__ import annotations

import copy
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from galelb.commands.node_view import changed_view, node_view
from galelb.errors import ApiError
from galelb.node.command import node_command

STATUS: dict[str, Any] = {
    "status": "running",
    "health": "serving",
    "reason": "",
    "stopped_at": None,
    "name": "web-1",
    "version": "0.1.0",
    "pid": 4242,
    "started_at": "2026-11-25T12:00:00.000Z",
    "uptime_s": 8040.0,
    "weight": 3,
    "load": 0.25,
    "services": [],
    "checks": [
        {
            "name": "web",
            "type": "http",
            "passes": True,
            "in_a_row": 7,
            "ran_s": 0.4,
            "reason": "",
        }
    ],
    "balancers": [
        {
            "name": "lb-0.local:7070",
            "connected": True,
            "address": "10.0.0.1",
            "connected_s": 61.0,
            "answered_s": 0.2,
            "state": "routable",
            "draining": False,
            "message": "routable: serving",
            "error": "the balancer ended the stream",
            "error_s": 62.0,
            "next_try_s": None,
        },
        {
            "name": "10.0.0.2:7070",
            "connected": False,
            "address": None,
            "connected_s": None,
            "answered_s": None,
            "state": None,
            "draining": False,
            "message": "",
            "error": "cannot connect: Connection refused",
            "error_s": 1.0,
            "next_try_s": 2.5,
        },
    ],
    "host": {
        "configure": True,
        "vips": ["203.0.113.10"],
        "tunnels": [{"vip": "203.0.113.10", "port": 0}],
        "changed": {
            "vips": ["203.0.113.10"],
            "sysctls": [{"name": "net/ipv4/conf/all/arp_ignore", "before": "0", "after": "1"}],
            "programs": [{"interface": "eth0", "mode": "native"}],
        },
        "tunnel_packets": {"unpacked": 1200, "passed": 0},
        "lacks": "",
        "mend": [],
    },
    "notes": [],
}


def text(view: Any) -> str:
    console = Console(width=300, highlight=False)
    with console.capture() as capture:
        console.print(view)
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def status(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(STATUS) | changes


def test_the_whole_picture() -> None:
    assert (
        "Serving\n"
        "web-1, galelb 0.1.0, pid 4242, up 2h 14m\n"
        "weight 3, load 0.25 per processor, services: all\n"
        "\n"
        "BALANCER         ADDRESS   CONNECTED          SEES IT AS    ANSWER  NOTE\n"
        "lb-0.local:7070  10.0.0.1  1m 1s              routable    0.2s ago  "
        "lost 1m 2s ago: the balancer ended the stream\n"
        "10.0.0.2:7070    -         no, tries in 2.5s  -              never  "
        "cannot connect: Connection refused\n"
        "\n"
        "CHECK  TYPE  STATE        RAN  IN A ROW        NOTE\n"
        "web    http  passes  0.4s ago  passed 7 times\n"
        "\n"
        "VIPs: 203.0.113.10\n"
        "Tunnels to: 203.0.113.10 (ipip)\n"
        "Changed here, undone on leaving: 203.0.113.10 on lo, net/ipv4/conf/all/arp_ignore=1, "
        "native program on eth0\n"
        "Packets by the program: unpacked 1,200\n"
    ) == text(node_view(STATUS))


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        (
            {"status": "stopped", "health": "shutting down"},
            "Stopped by the operator: no new connections until `galelb node start`",
        ),
        ({"health": "not serving", "reason": "web: refused"}, "NOT serving: web: refused"),
        ({"balancers": STATUS["balancers"][1:]}, "Could serve, but no balancer is connected"),
    ],
)
def test_the_first_line_says_whether_it_serves(changes: dict[str, Any], first: str) -> None:
    assert first == text(node_view(status(**changes))).splitlines()[0]


def test_what_the_machine_lacks_comes_with_what_mends_it() -> None:
    host = STATUS["host"] | {
        "lacks": "10.0.0.9 is no address",
        "mend": ["ip address add 10.0.0.9/32 dev lo"],
    }

    lines = text(node_view(status(host=host))).splitlines()

    assert [
        "This machine lacks something: 10.0.0.9 is no address",
        "  ip address add 10.0.0.9/32 dev lo",
    ] == lines[-2:]


def test_a_failing_check_says_why() -> None:
    checks = [STATUS["checks"][0] | {"passes": False, "in_a_row": -1, "reason": "refused"}]
    checks += [STATUS["checks"][0] | {"passes": None, "in_a_row": 0, "ran_s": None, "name": "b"}]

    lines = text(node_view(status(checks=checks, host=STATUS["host"] | {"vips": []}))).splitlines()

    assert "web    http  fails    0.4s ago  failed once  refused" in lines
    assert "b      http  not yet     never  -" in lines


def test_a_stop_says_who_heard_of_it() -> None:
    first, second = copy.deepcopy(STATUS["balancers"])
    drained = first | {"draining": True, "name": "a:1"}
    changed = status(
        status="stopped", balancers=[first, drained, second], notes=["it will be forgotten"]
    )

    assert [
        "lb-0.local:7070 has not answered yet",
        "a:1 sends no new connections",
        "10.0.0.2:7070 is not connected: it will hear of it when it is",
        "Note: it will be forgotten",
    ] == text(changed_view(changed)).splitlines()[1:]


def test_a_start_says_what_balancers_make_of_the_node() -> None:
    assert "lb-0.local:7070: routable" in text(changed_view(STATUS)).splitlines()


class Agent:
    """Answers every request with a status, one connection each; remembers the first lines."""

    def __init__(self, path: Path) -> None:
        self.answer = copy.deepcopy(STATUS)
        self.requests: list[str] = []
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.bind(str(path))
        self._sock.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._sock.accept()
            with connection:
                data = connection.recv(65536)
                if data == b"end":
                    return
                if data:  # else somebody looked whether we are there
                    self.requests.append(data.decode().splitlines()[0])
                    body = json.dumps(self.answer)
                    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n"
                    connection.sendall(f"{head}Connection: close\r\n\r\n{body}".encode())

    def close(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(path))
            last.sendall(b"end")
        self._thread.join()
        self._sock.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node.sock"


@pytest.fixture
def agent(path: Path) -> Iterator[Agent]:
    agent = Agent(path)
    yield agent
    agent.close(path)


@pytest.mark.parametrize(
    ("command", "request_line"),
    [
        ("status", "GET /v1/status HTTP/1.1"),
        ("stop", "POST /v1/stop HTTP/1.1"),
        ("start", "POST /v1/start HTTP/1.1"),
    ],
)
def test_each_command_asks_for_its_resource(
    agent: Agent, path: Path, command: str, request_line: str
) -> None:
    result = CliRunner().invoke(node_command, [command, "--api", f"unix:{path}"])

    assert (0, [request_line]) == (result.exit_code, agent.requests)
    assert "Serving" == result.output.splitlines()[0]


@pytest.mark.parametrize("where", ["group", "command"])
def test_the_agent_is_that_of_the_configuration(
    agent: Agent, path: Path, tmp_path: Path, where: str
) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'[api]\nsocket = "{path}"\n')
    option = ["--config", str(config)]
    arguments = [*option, "status"] if where == "group" else ["status", *option]

    result = CliRunner().invoke(node_command, [*arguments, "--json"])

    assert STATUS == json.loads(result.output)


@pytest.mark.parametrize(("health", "code"), [("serving", 0), ("not serving", 1)])
def test_check_is_for_scripts(agent: Agent, path: Path, health: str, code: int) -> None:
    agent.answer["health"] = health

    result = CliRunner().invoke(node_command, ["status", "--check", "--api", f"unix:{path}"])

    assert code == result.exit_code


def test_without_an_agent_it_is_said_what_to_do(path: Path) -> None:
    result = CliRunner().invoke(node_command, ["stop", "--api", f"unix:{path}"])

    assert isinstance(result.exception, ApiError)
    assert "no node agent runs here" in str(result.exception)
    assert "`galelb node`" in str(result.exception)
