# SPDX-License-Identifier: Apache-2.0
"""The agent's API over real sockets: who may do what, and what is told."""

import grp
import json
import os
import socket
import stat

import httpx
import pytest
import trio
from structlog.testing import capture_logs

from galelb.config.node import NodeConfig, NodeSettings
from galelb.errors import ApiError, ConfigError
from galelb.node.agent import NodeAgent
from galelb.node.api import NodeApi
from galelb.node.checks import CheckFailed
from galelb.node.remote import DEFAULT_STATE_FILE, agent_socket
from galelb.node.stop_file import StopFile

CHECK = {"name": "web", "type": "tcp", "target": "127.0.0.1:80"}


def free_port(host="127.0.0.1"):
    with socket.create_server((host, 0)) as sock:
        return sock.getsockname()[1]


@pytest.fixture
def settings(tmp_path):
    def make(checks=(), **api):
        return NodeConfig.model_validate(
            {
                "load_balancer": {"addresses": ({"ip": "127.0.0.1", "port": free_port()},)},
                "node": {
                    "name": "web",
                    "weight": 3,
                    "state_file": str(tmp_path / "node.json"),
                    "stop_file": str(tmp_path / "stopped"),
                },
                "checks": tuple(checks),
                **({"api": api} if api else {}),
            },
            strict=False,
        )

    return make


@pytest.fixture
def serve(nursery, settings):
    """Start an agent without balancers that answer, and its API; returns both."""

    async def _serve(checks=(), **api):
        config = settings(checks, **api)
        agent = NodeAgent(config)
        served = NodeApi(agent, config)
        with capture_logs():
            served.listen()
        await nursery.start(served.run)
        await nursery.start(agent.run)
        return agent

    return _serve


def over_unix(path):
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    return httpx.AsyncClient(transport=transport, base_url="http://agent")


def over_tcp(port, host="127.0.0.1", token=None):
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(base_url=f"http://{host}:{port}", headers=headers, trust_env=False)


@pytest.mark.parametrize("prefix", ["/v1", ""])
async def test_a_node_is_stopped_and_started_over_its_socket(serve, tmp_path, prefix):
    await serve()
    async with over_unix(tmp_path / "node.sock") as client:
        told = [
            (await client.get(f"{prefix}/status")).json(),
            (await client.post(f"{prefix}/stop")).json(),
            (await client.get(f"{prefix}/status")).json(),
            (await client.post(f"{prefix}/start")).json(),
        ]

    assert [
        ("running", "serving"),
        ("stopped", "shutting down"),
        ("stopped", "shutting down"),
        ("running", "serving"),
    ] == [(one["status"], one["health"]) for one in told]
    assert told[1]["stopped_at"] == told[2]["stopped_at"] is not None
    assert not (tmp_path / "stopped").exists()


async def test_the_socket_is_for_its_owner_alone(serve, tmp_path):
    await serve()

    assert 0o600 == stat.S_IMODE((tmp_path / "node.sock").stat().st_mode)


async def test_the_socket_may_be_for_a_group(serve, tmp_path):
    group = grp.getgrgid(os.getegid())
    await serve(socket=str(tmp_path / "mine"), socket_group=group.gr_name)

    state = (tmp_path / "mine").stat()
    assert (0o660, group.gr_gid) == (stat.S_IMODE(state.st_mode), state.st_gid)


async def test_status_tells_checks_balancers_and_machine(serve, tmp_path, monkeypatch):
    ran = trio.Event()

    async def probe(check):
        ran.set()
        raise CheckFailed("refused")

    monkeypatch.setattr("galelb.node.checks.probe", probe)
    agent = await serve([CHECK])
    await ran.wait()
    while not agent.clients[0].standing.error:
        await agent.clients[0].answered.wait()
    async with over_unix(tmp_path / "node.sock") as client:
        status = (await client.get("/v1/status")).json()

    assert ("web", 3, "not serving", "web: refused", os.getpid()) == tuple(
        status[key] for key in ("name", "weight", "health", "reason", "pid")
    )
    (check,) = status["checks"]
    assert ("web", "tcp", False, "refused") == tuple(
        check[key] for key in ("name", "type", "passes", "reason")
    )
    assert check["in_a_row"] <= -1
    assert 0 <= check["ran_s"] <= status["uptime_s"]
    (balancer,) = status["balancers"]
    assert (False, None, None) == tuple(
        balancer[key] for key in ("connected", "state", "answered_s")
    )
    assert "Connection refused" in balancer["error"]
    assert {
        "configure": True,
        "vips": [],
        "tunnels": [],
        "changed": {"vips": [], "sysctls": [], "programs": []},
        "tunnel_packets": {},
        "lacks": "",
        "mend": [],
    } == status["host"]
    assert [] == status["notes"]


async def test_a_stop_that_cannot_be_kept_is_noted(serve, tmp_path):
    agent = await serve()
    agent._stop_file = StopFile(tmp_path / "node.sock" / "stopped")  # below what is no folder
    async with over_unix(tmp_path / "node.sock") as client:
        status = (await client.post("/v1/stop")).json()

    assert "stopped" == status["status"]
    assert "a restart of the agent will forget this stop: File exists" in status["notes"][0]


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("GET", "/v1/stop", 405, "method_not_allowed", "POST"),
        ("DELETE", "/v1/status", 405, "method_not_allowed", "GET, HEAD"),
        ("GET", "/v1/nothing", 404, "not_found", None),
        ("GET", "/", 404, "not_found", None),
        ("GET", "/v1/v1/status", 404, "not_found", None),
        ("POST", "/v1/stop?now=1", 400, "unknown_parameter", None),
    ],
)
async def test_mistakes_are_told_and_change_nothing(
    serve, tmp_path, method, path, status, code, allow
):
    agent = await serve()
    async with over_unix(tmp_path / "node.sock") as client:
        answer = await client.request(method, path)

    assert (status, code) == (answer.status_code, answer.json()["error"]["code"])
    assert allow == answer.headers.get("allow")
    assert not agent.health.stopped


async def test_over_loopback_everybody_reads_and_the_token_changes(serve, tmp_path):
    port = free_port()
    agent = await serve(port=port)
    token = (tmp_path / "node.token").read_text().strip()
    async with over_tcp(port) as client:
        assert 200 == (await client.get("/v1/status")).status_code
        refused = await client.post("/v1/stop")
    assert (401, "Bearer") == (refused.status_code, refused.headers["www-authenticate"])
    assert str(tmp_path / "node.token") in refused.json()["error"]["message"]
    assert not agent.health.stopped

    async with over_tcp(port, token="wrong" * 10) as client:
        assert 401 == (await client.post("/v1/stop")).status_code
    async with over_tcp(port, token=token) as client:
        assert 200 == (await client.post("/v1/stop")).status_code
    assert agent.health.stopped
    assert 0o600 == stat.S_IMODE((tmp_path / "node.token").stat().st_mode)


async def test_elsewhere_reading_needs_the_token_too(serve, tmp_path, monkeypatch):
    """An address that is not loopback to us, though the kernel of every machine has it."""
    monkeypatch.setattr("ipaddress.IPv4Address.is_loopback", False)
    port = free_port()
    await serve(port=port, token_file=str(tmp_path / "secret"))
    token = (tmp_path / "secret").read_text().strip()
    async with over_tcp(port) as client:
        assert 401 == (await client.get("/v1/status")).status_code
    async with over_tcp(port, token=token) as client:
        assert 200 == (await client.get("/v1/status")).status_code


def test_without_an_api_section_an_agent_runs_without_an_api(settings, tmp_path):
    (tmp_path / "node.sock").write_text("in the way")
    config = settings()
    with capture_logs() as logs:
        NodeApi(NodeAgent(config), config).listen()

    assert ["api_unavailable"] == [entry["event"] for entry in logs]
    assert "no socket is in the way" in logs[0]["reason"]


@pytest.mark.parametrize(
    ("api", "message"),
    [
        ({"socket_group": "no-such-group"}, "there is no group 'no-such-group'"),
        ({"port": 1, "address": "203.0.113.77"}, "the address is not on this machine"),
    ],
)
def test_an_api_that_was_asked_for_must_work(settings, tmp_path, api, message):
    config = settings(**api)
    with capture_logs(), pytest.raises(ApiError, match=message):
        NodeApi(NodeAgent(config), config).listen()

    assert not (tmp_path / "node.sock").exists()


async def test_a_second_agent_leaves_the_first_ones_socket_alone(serve, settings, tmp_path):
    await serve()
    config = settings()
    with capture_logs() as logs:
        NodeApi(NodeAgent(config), config).listen()

    assert "a running agent answers there" in logs[0]["reason"]
    async with over_unix(tmp_path / "node.sock") as client:
        assert 200 == (await client.get("/v1/status")).status_code


async def test_the_socket_goes_with_the_agent(settings, tmp_path):
    config = settings()
    api = NodeApi(NodeAgent(config), config)
    with capture_logs():
        api.listen()
    async with trio.open_nursery() as inner:
        await inner.start(api.run)
        inner.cancel_scope.cancel()

    assert [] == list(tmp_path.glob("node.sock*"))


@pytest.mark.parametrize(
    ("toml", "path"),
    [
        ("", "/run/galelb/node.sock"),
        ('[node]\nstate_file = "/run/x/n1.json"\n', "/run/x/n1.sock"),
        ('[api]\nsocket = "/run/y.sock"\n[node]\nstate_file = "/run/n.json"', "/run/y.sock"),
    ],
)
def test_commands_find_the_socket_as_the_agent_does(tmp_path, toml, path):
    file = tmp_path / "node.toml"
    file.write_text(f'{toml}\n[load_balancer]\naddresses = [{{ ip = "10.0.0.1" }}]\n')
    from galelb.config.node import load_node_config

    assert path == str(agent_socket(file)) == str(load_node_config(file).api_socket)


def test_the_default_is_that_of_the_configuration():
    assert str(DEFAULT_STATE_FILE) == NodeSettings().state_file


@pytest.mark.parametrize("toml", ["api = 1", "[api]\nsocket = 1", "[node]\nstate_file = []"])
def test_a_file_that_cannot_be_right_is_an_error(tmp_path, toml):
    (tmp_path / "node.toml").write_text(toml)

    with pytest.raises(ConfigError, match="`galelb check --node` says why"):
        agent_socket(tmp_path / "node.toml")


async def test_all_of_status_is_json(serve, tmp_path):
    await serve()
    async with over_unix(tmp_path / "node.sock") as client:
        text = (await client.get("/v1/status")).text

    assert json.loads(text, parse_constant=pytest.fail)["version"]
