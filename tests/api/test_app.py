# SPDX-License-Identifier: Apache-2.0
"""Every resource of the API, and every way to ask for it wrongly."""

from __future__ import annotations

from ipaddress import IPv4Address

import attrs
import httpx
import pytest
from structlog.testing import capture_logs

from galelb.api.app import create_app
from galelb.api.auth import BearerToken
from galelb.api.paging import cursor_text, flow_key
from galelb.api.view import FlowPage, PeerStatus
from galelb.errors import ApiError, MapError
from galelb.model import Flow, Metric, Peer
from galelb.testing.fakes import FakeBalancer

Client = httpx.AsyncClient


async def test_status_tells_what_runs_and_whether_it_is_ready(client: Client) -> None:
    response = await client.get("/v1/status")

    assert 200 == response.status_code
    assert {
        "ready": True,
        "not_ready_reason": "",
        "version": "0.1.0",
        "instance": "default",
        "pid": 4242,
        "started_at": "2023-11-14T22:13:20.000Z",
        "uptime_s": 8043.5,
        "adopted": True,
        "config_digest": "9b74c9897bac770f",
        "plugins": ["l4_nat", "health_grpc"],
        "interfaces": [
            {"name": "eth0", "role": "private", "mode": "native", "reason": "", "ifindex": 2},
            {
                "name": "eth1",
                "role": "public",
                "mode": "generic",
                "reason": "the driver has no native XDP",
                "ifindex": 3,
            },
        ],
        "services": {"total": 2, "routable": 1},
        "nodes": {"total": 3, "routable": 1},
        "flows": 5,
        "reasons": {
            "pass_foreign": {"packets": 120, "bytes": 9000},
            "forwarded": {"packets": 6000, "bytes": 3840000},
            "no_node": {"packets": 17, "bytes": 1190},
        },
        "event_loop_lag_s": 0.0,
        "notes": [],
    } == response.json()


@pytest.mark.parametrize("reason", ["", "no service has a routable node"])
async def test_health_is_503_with_the_reason_until_ready(
    client: Client, balancer: FakeBalancer, reason: str
) -> None:
    balancer.not_ready = reason

    response = await client.get("/v1/health")

    assert (503 if reason else 200) == response.status_code
    assert {"ready": not reason, "reason": reason} == response.json()


async def test_nodes_are_listed_in_order(client: Client) -> None:
    nodes = (await client.get("/v1/nodes")).json()["nodes"]

    assert ["web-1", "web-2", "web-3"] == [node["name"] for node in nodes]
    assert {
        "address": "10.0.0.12",
        "name": "web-2",
        "state": "routable",
        "reason": "",
        "draining": True,
        "weight": 1,
        "own_weight": 1,
        "operator_weight": None,
        "effective_weight": 0,
        "weight_reason": "",
        "start_share": 100,
        "load_share": 100,
        "static": False,
        "neighbour": "02:00:00:00:00:0c",
        "failures": 0,
        "reports": 3,
        "takes_new_flows": False,
        "index": 2,
        "weight_from": "default",
        "load": None,
        "unroutable_reason": "drained by the operator",
        "health": [
            {
                "source": "health_grpc",
                "service": "",
                "word": "shutting down",
                "message": "upgrade",
                "age_s": 0.5,
            }
        ],
        "packets": 2000,
        "bytes": 1280000,
    } == nodes[1]


async def test_a_node_that_starts_or_is_busy_says_what_counts_and_why(
    client: Client, balancer: FakeBalancer
) -> None:
    first = balancer.node_list[0]
    node = attrs.evolve(first.record.node, weight=3)
    record = attrs.evolve(first.record, node=node, start_share=35, load_share=80)
    balancer.node_list = [attrs.evolve(first, record=record, load=1.333, weight_from="node")]

    told = (await client.get("/v1/nodes/web-1")).json()

    assert (3, 0.84, "slow start 35 %, load 80 %") == (
        told["weight"],
        told["effective_weight"],
        told["weight_reason"],
    )
    assert (1.33, "node") == (told["load"], told["weight_from"])


@pytest.mark.parametrize("wanted", ["10.0.0.11", "web-1"])
async def test_a_node_is_found_by_address_and_by_name(client: Client, wanted: str) -> None:
    assert "10.0.0.11" == (await client.get(f"/v1/nodes/{wanted}")).json()["address"]


async def test_services_show_table_traffic_and_drops(client: Client) -> None:
    web, dns = (await client.get("/v1/services")).json()["services"]

    assert {
        "name": "web",
        "id": 1,
        "vip": "192.0.2.10",
        "port": 80,
        "protocol": "tcp",
        "target_port": 8080,
        "forwarder": "l4_nat",
        "scheduler": "maglev",
        "vlan": 0,
        "nodes": [],
        "routable_nodes": 1,
        "table_digest": "5f1c0a9e77aa41d2",
        "packets": 6000,
        "bytes": 3840000,
        "drops": {"no_neighbour": {"packets": 4, "bytes": 256}},
    } == web
    assert ("dns", "2001:db8::53", "udp") == (dns["name"], dns["vip"], dns["protocol"])
    assert "ring" == dns["scheduler"]


@pytest.mark.parametrize(
    ("query", "ports", "total"),
    [
        ("", [40000, 40002, 40004, 40001, 40003], 5),
        ("?limit=2&offset=1", [40002, 40004], 5),
        ("?offset=99", [], 5),
        ("?service=web&limit=1", [40000], 5),
        ("?service=dns", [], 0),
        ("?node=web-2", [40001, 40003], 2),
        ("?node=10.0.0.99", [], 0),
        ("?client=198.51.100.7", [40000, 40002, 40004], 3),
        ("?state=established&node=web-2", [40001, 40003], 2),
        ("?state=closing", [], 0),
    ],
)
async def test_flows_are_filtered_and_paged(
    client: Client, query: str, ports: list[int], total: int
) -> None:
    page = (await client.get(f"/v1/flows{query}")).json()

    assert (ports, total) == ([flow["client_port"] for flow in page["flows"]], page["total"])


async def test_a_flow_shows_both_sides(client: Client, balancer: FakeBalancer) -> None:
    page = (await client.get("/v1/flows?limit=1")).json()

    assert {
        "flows": [
            {
                "service": "web",
                "protocol": "tcp",
                "client": "198.51.100.7",
                "client_port": 40000,
                "node": "10.0.0.11",
                "source": "10.0.0.1",
                "source_port": 20000,
                "state": "established",
                "idle_s": 0.0,
            }
        ],
        "total": 5,
        "limit": 1,
        "offset": 0,
        "cursor": cursor_text(flow_key(balancer.flow_list[0])),
    } == page


async def test_peers_and_plugins(client: Client, balancer: FakeBalancer) -> None:
    peer = Peer(address=IPv4Address("10.0.0.2"), port=9090, alive=True)
    balancer.peer_list = [PeerStatus(peer=peer, version="0.1.0", last_seen_s=0.25)]

    answer = (await client.get("/v1/peers")).json()
    plugins = (await client.get("/v1/plugins")).json()["plugins"]

    assert {
        "group": None,
        "peers": [
            {
                "name": "",
                "address": "10.0.0.2",
                "port": 9090,
                "alive": True,
                "left": False,
                "ready": None,
                "version": "0.1.0",
                "config_digest": "",
                "same_config": None,
                "tables_digest": "",
                "same_tables": None,
                "last_seen_s": 0.25,
                "lag_s": None,
                "copy_behind_s": None,
                "copy_complete": None,
                "note": "",
            }
        ],
    } == answer
    assert {
        "name": "l4_nat",
        "version": "0.1.0",
        "package": "galelb",
        "kinds": ["forwarder"],
    } == plugins[0]


async def test_metrics_are_prometheus_text(client: Client, balancer: FakeBalancer) -> None:
    balancer.metric_list = [Metric(name="galelb_nodes", help="Nodes.", value=3)]

    response = await client.get("/v1/metrics")

    assert "text/plain; version=0.0.4; charset=utf-8" == response.headers["content-type"]
    assert "# HELP galelb_nodes Nodes.\n# TYPE galelb_nodes gauge\ngalelb_nodes 3.0\n" == (
        response.text
    )


async def test_drain_and_undrain_change_the_node(client: Client, balancer: FakeBalancer) -> None:
    drained = await client.post("/v1/nodes/web-1/drain")
    assert (200, True) == (drained.status_code, drained.json()["draining"])
    assert balancer.node_list[0].record.draining

    undrained = await client.post("/v1/nodes/10.0.0.11/undrain")
    assert (200, False) == (undrained.status_code, undrained.json()["draining"])


@pytest.mark.parametrize(
    ("weight", "in_force"), [(7, 7), (0, 0), (1000, 1000), (5.0, 5), (None, 1)]
)
async def test_weight_is_set_and_reset(client: Client, weight: int | None, in_force: int) -> None:
    response = await client.put("/v1/nodes/web-1/weight", json={"weight": weight})

    assert (weight, in_force) == (response.json()["operator_weight"], response.json()["weight"])


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "says"),
    [
        ("GET", "/", 404, "not_found", "nothing is at /"),
        ("GET", "/v1/status/", 404, "not_found", "nothing is at /v1/status/"),
        ("GET", "/v1/%ff%00", 404, "not_found", "nothing is at"),
        ("GET", "/v1/nodes/web-11", 404, "unknown_node", "did you mean web-1?"),
        ("GET", "/v1/nodes/zzz", 404, "unknown_node", "`galelb nodes` lists them"),
        ("GET", "/v1/nodes/10.0.0.111", 404, "unknown_node", "did you mean 10.0.0.11?"),
        ("GET", "/v1/nodes/fe80::1%25eth0", 404, "unknown_node", "no node 'fe80::1%eth0'"),
        ("POST", "/v1/nodes/zzz/drain", 404, "unknown_node", "no node 'zzz'"),
        ("POST", "/v1/nodes/10.9.9.9/undrain", 404, "unknown_node", "no node '10.9.9.9'"),
        ("GET", "/v1/status?x=1", 400, "unknown_parameter", "'x'; allowed: none"),
        ("GET", "/v1/flows?limt=1", 400, "unknown_parameter", "allowed: service, node, client,"),
        ("POST", "/v1/nodes/web-1/drain?on=1", 400, "unknown_parameter", "allowed: none"),
        ("GET", "/v1/flows?limit=1&limit=2", 400, "bad_parameter", "'limit' is given twice"),
        ("GET", "/v1/flows?limit=0", 400, "bad_parameter", "from 1 to 1000, got '0'"),
        ("GET", "/v1/flows?limit=1001", 400, "bad_parameter", "from 1 to 1000"),
        ("GET", "/v1/flows?limit=", 400, "bad_parameter", "from 1 to 1000"),
        ("GET", "/v1/flows?limit=%D9%A3", 400, "bad_parameter", "from 1 to 1000"),
        ("GET", f"/v1/flows?offset={'9' * 5000}", 400, "bad_parameter", "from 0 to"),
        ("GET", "/v1/flows?offset=-1", 400, "bad_parameter", "from 0 to"),
        ("GET", "/v1/flows?offset=100001", 400, "bad_parameter", "from 0 to 100000"),
        ("GET", "/v1/flows?state=Nice!", 400, "bad_parameter", "a word such as established"),
        ("GET", "/v1/flows?cursor=%00", 404, "unknown_cursor", "came with the page before"),
        ("GET", "/v1/flows?cursor=WzFd", 404, "unknown_cursor", "came with the page before"),
        ("GET", "/v1/flows?cursor=WzFd&offset=1", 400, "bad_parameter", "do not go together"),
        ("GET", "/v1/events/recent?limit=1001", 400, "bad_parameter", "from 1 to 1000"),
        ("GET", "/v1/nodes/zzz/history", 404, "unknown_node", "no node 'zzz'"),
        ("GET", "/nodes/zzz", 404, "unknown_node", "no node 'zzz'"),
        ("GET", "/v1/flows?client=me", 400, "bad_parameter", "must be an IP address, got 'me'"),
        ("GET", "/v1/flows?service=wep", 404, "unknown_service", "did you mean web?"),
        ("GET", "/v1/flows?node=wep-1", 404, "unknown_node", "did you mean web-1?"),
        ("DELETE", "/v1/nodes/web-1", 405, "method_not_allowed", "DELETE does not work here"),
        ("BREW", "/v1/status", 405, "method_not_allowed", "allowed: GET, HEAD"),
        ("GET", "/v1/nodes/web-1/drain", 405, "method_not_allowed", "allowed: POST"),
        ("POST", "/v1/nodes/web-1/weight", 405, "method_not_allowed", "allowed: PUT"),
    ],
)
async def test_a_wrong_request_is_answered_with_what_is_right(
    client: Client, method: str, path: str, status: int, code: str, says: str
) -> None:
    response = await client.request(method, path)

    error = response.json()["error"]
    assert (status, code) == (response.status_code, error["code"])
    assert says in error["message"]


async def test_405_names_the_allowed_methods_in_its_header(client: Client) -> None:
    response = await client.put("/v1/nodes/web-1/drain")

    assert (405, "POST") == (response.status_code, response.headers["allow"])


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (b"", "invalid_json", "not JSON"),
        (b"{", "invalid_json", "not JSON"),
        (b"\xff\xfe\xff", "invalid_json", "not JSON"),
        (b"[" * 60_000, "invalid_json", "not JSON"),
        (b'{"weight": ' + b"9" * 5000 + b"}", "invalid_json", "not JSON"),
        (b"[]", "bad_body", "must be a JSON object"),
        (b"{}", "bad_body", "no key 'weight'"),
        (b'{"wieght": 1}', "bad_body", "unknown key 'wieght' (did you mean 'weight'?)"),
        (b'{"weight": 1, "\\ud800": 1}', "bad_body", "unknown key '\\ud800'; allowed: weight"),
        (b'{"weight": -1}', "bad_body", "from 0 to 1000 or null, got -1"),
        (b'{"weight": 1001}', "bad_body", "from 0 to 1000"),
        (b'{"weight": 1.5}', "bad_body", "got 1.5"),
        (b'{"weight": 1e400}', "bad_body", "got inf"),
        (b'{"weight": true}', "bad_body", "got True"),
        (b'{"weight": NaN}', "bad_body", "got nan"),
        (b'{"weight": "5"}', "bad_body", "got 5"),
    ],
)
async def test_a_bad_body_is_400(client: Client, body: bytes, code: str, says: str) -> None:
    response = await client.put("/v1/nodes/web-1/weight", content=body)

    error = response.json()["error"]
    assert (400, code) == (response.status_code, error["code"])
    assert says in error["message"]


async def test_a_name_that_two_nodes_share_is_refused(
    client: Client, balancer: FakeBalancer
) -> None:
    first = balancer.node_list[0]
    twin = attrs.evolve(first.record.node, address=IPv4Address("10.0.0.21"))
    record = attrs.evolve(first.record, node=twin)
    balancer.node_list.append(attrs.evolve(first, record=record))

    response = await client.post("/v1/nodes/web-1/drain")

    assert 409 == response.status_code
    assert "use one of 10.0.0.11, 10.0.0.21" in response.json()["error"]["message"]


async def test_odd_host_headers_do_no_harm(client: Client) -> None:
    response = await client.get("/v1/nothing", headers={"host": "[[::"})

    assert 404 == response.status_code


@pytest.mark.parametrize(
    "error", [RuntimeError("secret detail"), MapError("gale_nodes", "get", "secret detail")]
)
async def test_our_own_failures_are_logged_and_answered_without_detail(error: Exception) -> None:
    class Broken(FakeBalancer):
        async def flows(self, **filters: object) -> FlowPage:
            raise error

    transport = httpx.ASGITransport(create_app(Broken(), BearerToken("x" * 40)))
    async with httpx.AsyncClient(transport=transport, base_url="http://galelb") as client:
        with capture_logs() as logs:
            response = await client.get("/v1/flows")

    assert 500 == response.status_code
    assert {"error": {"code": "internal", "message": "internal error"}} == response.json()
    assert ["api_request_failed"] == [entry["event"] for entry in logs]


async def test_what_the_balancer_refuses_is_the_clients_409(
    client: Client, balancer: FakeBalancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(address: object, *, on: bool) -> None:
        raise ApiError("static nodes cannot drain")

    monkeypatch.setattr(type(balancer), "drain", lambda self, address, on: refuse(address, on=on))

    response = await client.post("/v1/nodes/web-1/drain")

    assert 409 == response.status_code
    assert {"code": "refused", "message": "static nodes cannot drain"} == response.json()["error"]


async def test_changes_need_the_token_and_reads_do_not(balancer: FakeBalancer) -> None:
    token = "t" * 40
    transport = httpx.ASGITransport(create_app(balancer, BearerToken(token)))
    async with httpx.AsyncClient(transport=transport, base_url="http://galelb") as client:
        for given in (None, "", token, f"Basic {token}", "Bearer ", f"Bearer {token}x"):
            headers = {} if given is None else {"authorization": given}
            for method, path in (
                ("POST", "/v1/nodes/web-1/drain"),
                ("POST", "/v1/nodes/nobody/undrain"),
                ("PUT", "/v1/nodes/web-1/weight"),
            ):
                refused = await client.request(method, path, headers=headers)
                assert (401, "Bearer") == (
                    refused.status_code,
                    refused.headers["www-authenticate"],
                )
        assert not balancer.node_list[0].record.draining

        assert 200 == (await client.get("/v1/nodes")).status_code
        right = {"authorization": f"bearer {token}"}
        with capture_logs() as logs:
            allowed = await client.post("/v1/nodes/web-1/drain", headers=right)

    assert 200 == allowed.status_code
    assert balancer.node_list[0].record.draining
    assert token not in repr(logs)


async def test_text_from_nodes_cannot_break_the_answer(
    client: Client, balancer: FakeBalancer
) -> None:
    flow = balancer.flow_list[0]
    balancer.flow_list = [attrs.evolve(flow, state="\ud800\x1b[2J")]

    flows: list[Flow] = (await client.get("/v1/flows")).json()["flows"]

    assert ["\ud800\x1b[2J"] == [f["state"] for f in flows]  # type: ignore[index]
