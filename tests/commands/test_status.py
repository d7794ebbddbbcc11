# SPDX-License-Identifier: Apache-2.0
"""What an operator reads, from a real server with a fake balancer behind it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import attrs
import click
import pytest
import trio
from click.testing import CliRunner
from structlog.testing import capture_logs

from galelb.api.listen import SOCKET_FILE
from galelb.api.server import ApiServer
from galelb.api.view import Count, GroupStatus, PeerStatus
from galelb.client import RefusedError
from galelb.commands import status as commands
from galelb.model import HealthWord, Peer
from galelb.testing.fakes import FakeBalancer

Run = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def balancer() -> FakeBalancer:
    return FakeBalancer()


@pytest.fixture
async def run(tmp_path: Path, balancer: FakeBalancer, nursery: trio.Nursery) -> Run:
    """Run a command against the balancer; returns exit code and what it printed."""
    server = ApiServer(balancer, addresses=(), port=5555, directory=tmp_path)
    with capture_logs():
        await nursery.start(server.run)

    async def run(command: click.Command, *arguments: str) -> tuple[int, str]:
        invoke = partial(
            CliRunner().invoke,
            command,
            [*arguments, "--api", f"unix:{tmp_path / SOCKET_FILE}"],
            catch_exceptions=False,
        )
        # The server shares our process; what it logs is not what the command prints.
        with capture_logs():
            result = await trio.to_thread.run_sync(invoke)
        return result.exit_code, result.output

    return run


async def test_status_begins_with_whether_it_forwards(run: Run, balancer: FakeBalancer) -> None:
    balancer.service_list = balancer.service_list[:1]
    balancer.notes = ("eth1 runs in generic mode.",)

    code, output = await run(commands.status_command)

    assert 0 == code
    assert (
        "Forwarding\n"
        "1 of 1 service with nodes, 1 of 3 nodes routable, 5 flows\n"
        "\n"
        "galelb 0.1.0, instance default, pid 4242, up 2h 14m\n"
        "configuration 9b74c989, plugins l4_nat, health_grpc; took over from an earlier run\n"
        "\n"
        "INTERFACE  ROLE     MODE     NOTE\n"
        "eth0       private  native\n"
        "eth1       public   generic  the driver has no native XDP\n"
        "\n"
        "REASON        PACKETS   BYTES\n"
        "pass_foreign      120  9.0 kB\n"
        "forwarded       6,000  3.8 MB\n"
        "no_node            17  1.2 kB\n"
        "\n"
        "Note: eth1 runs in generic mode.\n"
    ) == output


async def test_status_says_when_a_part_does_not_forward(run: Run) -> None:
    _, output = await run(commands.status_command)

    first = output.splitlines()[0]
    assert "Forwarding, but not everything: 1 service without a routable node" == first


async def test_status_names_the_part_that_does_not_forward(
    run: Run, balancer: FakeBalancer
) -> None:
    balancer.not_ready = "no routable node for mail"

    _, output = await run(commands.status_command)

    first = output.splitlines()[0]
    assert "Forwarding, but not everything: no routable node for mail" == first


@pytest.mark.parametrize(("arguments", "code"), [((), 0), (("--check",), 1)])
async def test_status_says_why_it_does_not_forward(
    run: Run, balancer: FakeBalancer, arguments: tuple[str, ...], code: int
) -> None:
    balancer.not_ready = "no service has a routable node"
    balancer.service_list = balancer.service_list[1:]

    exit_code, output = await run(commands.status_command, *arguments)

    assert (code, "NOT forwarding: no service has a routable node") == (
        exit_code,
        output.splitlines()[0],
    )


async def test_nodes_show_state_weight_and_why(run: Run, balancer: FakeBalancer) -> None:
    await balancer.set_weight(IPv4Address("10.0.0.11"), 5)

    _, output = await run(commands.nodes_command)

    assert (
        "NODE   ADDRESS    STATE        WEIGHT  PACKETS   BYTES  NOTE\n"
        "web-1  10.0.0.11  routable  5 (own 1)    1,000  640 kB\n"
        "web-2  10.0.0.12  draining          1    2,000  1.3 MB  drained by the operator\n"
        "web-3  10.0.0.13  down              1    3,000  1.9 MB  no report for 5 s; failed once\n"
    ) == output


async def test_nodes_show_the_word_of_every_source(run: Run, balancer: FakeBalancer) -> None:
    one = HealthWord(source="health_grpc", word="serving", age_s=0.1)
    other = HealthWord(source="health_probe", word="failed", message="no answer", age_s=2.0)
    first, second, *_ = balancer.node_list
    balancer.node_list = [
        attrs.evolve(first, words=(one, other)),
        attrs.evolve(second, words=(one,)),
    ]

    lines = (await run(commands.nodes_command))[1].splitlines()

    assert "health_grpc: serving, health_probe: failed" in " ".join(lines[1].split())
    assert "health_grpc" not in lines[2], "one source alone is quoted by the reason"


async def test_nodes_show_what_of_a_weight_counts(run: Run, balancer: FakeBalancer) -> None:
    starting, *others = balancer.node_list
    record = attrs.evolve(starting.record, start_share=40, operator_weight=5)
    balancer.node_list = [attrs.evolve(starting, record=record), *others]

    _, output = await run(commands.nodes_command)

    assert "routable  2 of 5 (own 1; slow start 40 %)" in output


async def test_words_about_a_node_that_starts_slowly_say_what_counts(
    run: Run, balancer: FakeBalancer
) -> None:
    first, *others = balancer.node_list
    record = attrs.evolve(first.record, start_share=5)
    balancer.node_list = [attrs.evolve(first, record=record), *others]

    _, undrained = await run(commands.undrain_command, "web-1")
    _, weighed = await run(commands.weight_command, "web-1", "own")

    counts = "weight 1{}, of which 0.05 counts now: slow start 5 %.\n"
    assert f"web-1 (10.0.0.11) is not draining any more; it has {counts.format('')}" == undrained
    assert f"web-1 (10.0.0.11) has {counts.format(' (its own)')}" == weighed


async def test_services_show_table_and_drops(run: Run) -> None:
    _, output = await run(commands.services_command)

    assert (
        "SERVICE  ADDRESS                FORWARDER  NODES  SCHEDULER  TABLE     PACKETS   BYTES\n"
        "web      192.0.2.10:80/tcp      l4_nat         1  maglev     5f1c0a9e    6,000  3.8 MB\n"
        "dns      [2001:db8::53]:53/udp  l4_nat         0  ring       -               0     0 B\n"
        "\n"
        "web dropped: no_neighbour 4\n"
        "dns dropped: no_node 17\n"
    ) == output


async def test_flows_show_a_page_and_how_to_get_the_next(run: Run) -> None:
    _, output = await run(commands.flows_command, "--limit", "2", "--offset", "1")

    assert (
        "SERVICE  PROTO  CLIENT              NODE       SOURCE          STATE        IDLE\n"
        "web      tcp    198.51.100.7:40002  10.0.0.11  10.0.0.1:20002  established  2.0s\n"
        "web      tcp    198.51.100.7:40004  10.0.0.11  10.0.0.1:20004  established  4.0s\n"
        "2 to 3 of 5 flows; next: --offset 3\n"
    ) == output


NO_FLOWS = "No flows. Only forwarders that track connections have any: l4_nat does."


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (("--service", "dns"), [NO_FLOWS]),
        (("--offset", "7"), ["No flows from number 8 on, of 5."]),
        (("--node", "web-2", "--client", "198.51.100.7"), [NO_FLOWS]),
    ],
)
async def test_no_flows(run: Run, arguments: tuple[str, ...], lines: list[str]) -> None:
    _, output = await run(commands.flows_command, *arguments)

    assert lines == output.splitlines()


async def test_a_lone_balancer_has_no_peers(run: Run) -> None:
    _, output = await run(commands.peers_command)

    assert output.startswith("No peers: this balancer works alone")


async def test_peers_show_whether_they_live_and_agree(run: Run, balancer: FakeBalancer) -> None:
    balancer.peer_list = [
        PeerStatus(
            peer=Peer(address=IPv4Address("10.0.0.2"), port=9090, alive=True, name="lb2"),
            version="0.1.0",
            ready=True,
            same_config=True,
            same_tables=False,
            last_seen_s=0.0,
            copy_complete=True,
            copy_behind_s=0.2,
        ),
        PeerStatus(peer=Peer(address=IPv6Address("fd00::3"), port=9090), note="never answered"),
    ]

    _, output = await run(commands.peers_command)

    assert (
        "PEER  ADDRESS         STATE  VERSION  CONFIG   TABLES   LAST SEEN         COPY  NOTE\n"
        "lb2   10.0.0.2:9090   alive  0.1.0    same     differs        now  0.2s behind\n"
        "-     [fd00::3]:9090  dead   -        unknown  unknown      never            -  never"
        " answered\n"
    ) == output


async def test_peers_begin_with_the_place_in_the_group(run: Run, balancer: FakeBalancer) -> None:
    balancer.group_status = GroupStatus(
        name="lb1",
        transport="sync_gossip",
        standing="cut off",
        alive=1,
        configured=3,
        ready=False,
        config_digest="c",
        tables_digest="t",
        vips={"192.0.2.1": "lb1", "192.0.2.2": "", "192.0.2.3": "lb1"},
        sources=("10.0.0.201",),
    )

    _, output = await run(commands.peers_command)

    assert [
        "lb1: cut off, 1 of 3 balancers by sync_gossip, not ready for addresses",
        "VIPs of nobody: 192.0.2.2",
        "VIPs of lb1: 192.0.2.1, 192.0.2.3",
        "Translation addresses here: 10.0.0.201",
    ] == output.splitlines()[:4]


async def test_without_nodes_and_services_there_is_a_hint(run: Run, balancer: FakeBalancer) -> None:
    balancer.node_list = []
    balancer.service_list = []

    assert "`galelb node`" in (await run(commands.nodes_command))[1]
    assert "No services.\n" == (await run(commands.services_command))[1]


async def test_drain_and_undrain_say_what_happens_now(run: Run) -> None:
    drained = await run(commands.drain_command, "web-1")
    undrained = await run(commands.undrain_command, "10.0.0.11")
    still_down = await run(commands.undrain_command, "web-3")

    assert [
        (0, "web-1 (10.0.0.11) drains: no new connections, existing ones go on.\n"),
        (0, "web-1 (10.0.0.11) is not draining any more.\n"),
        (
            0,
            "web-3 (10.0.0.13) is not draining any more, but gets no new connections now: down, "
            "no report for 5 s.\n",
        ),
    ] == [drained, undrained, still_down]


async def test_weight_says_what_is_in_force(run: Run) -> None:
    outputs = [(await run(commands.weight_command, "web-1", w))[1] for w in ("5", "0", "own")]

    assert [
        "web-1 (10.0.0.11) has weight 5 (its own: 1).\n",
        "web-1 (10.0.0.11) has weight 0 (its own: 1), but gets no new connections now: weight 0.\n",
        "web-1 (10.0.0.11) has weight 1 (its own).\n",
    ] == outputs


@pytest.mark.parametrize("weight", ["x", "1001", "1.5", "", "1_0", "٣"])
async def test_a_bad_weight_is_a_usage_error(run: Run, weight: str) -> None:
    code, output = await run(commands.weight_command, "web-1", weight)

    assert 2 == code
    assert "0 to 1000, or 'own'" in output


async def test_an_unknown_node_names_the_nearest(run: Run) -> None:
    with pytest.raises(RefusedError, match="did you mean web-1"):
        await run(commands.drain_command, "wep-1")


@pytest.mark.parametrize(
    ("command", "arguments", "key"),
    [
        (commands.status_command, (), "ready"),
        (commands.nodes_command, (), "nodes"),
        (commands.services_command, (), "services"),
        (commands.flows_command, (), "flows"),
        (commands.peers_command, (), "peers"),
        (commands.drain_command, ("web-1",), "draining"),
        (commands.undrain_command, ("web-1",), "draining"),
        (commands.weight_command, ("web-1", "3"), "operator_weight"),
    ],
)
async def test_programs_get_one_json_object(
    run: Run, command: click.Command, arguments: tuple[str, ...], key: str
) -> None:
    code, output = await run(command, *arguments, "--json")

    assert 0 == code
    assert key in json.loads(output)


async def test_what_nodes_say_cannot_steer_the_terminal(run: Run, balancer: FakeBalancer) -> None:
    status = balancer.node_list[0]
    node = attrs.evolve(status.record.node, name="\x1b[2J[red]\u202e")
    record = attrs.evolve(status.record, node=node, reason="a\nb\ud800")
    balancer.node_list = [attrs.evolve(status, record=record)]

    _, output = await run(commands.nodes_command)

    assert "?[2J[red]?" in output
    assert "a?b?" in output
    assert 2 == len(output.splitlines())


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_949, "99.9 kB"), (999_600, "1.0 MB")],
)
async def test_sizes_have_three_digits(
    run: Run, balancer: FakeBalancer, size: int, shown: str
) -> None:
    balancer.reasons = {"forwarded": Count(1, size)}

    _, output = await run(commands.status_command)

    assert f"  {shown}\n" in output
