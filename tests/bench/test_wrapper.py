# SPDX-License-Identifier: Apache-2.0
"""The wrapper that packets are measured with makes the flows that it says, and judges programs."""

import os
import struct
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from bench.cases import ROUNDS, Case, cases, chosen
from bench.machine import RefusedError
from bench.packet import Bench, measure, runner_of
from bench.wrapper import Flow, Wrapper
from galelb.abi import NextHopFlag
from galelb.bpf import syscalls
from galelb.bpf.maps import close_maps, open_maps
from galelb.datapath.sandbox import Sandbox
from galelb.plugins import Plugins
from galelb.testing.differential import step
from galelb.testing.dissect import dissect
from galelb.testing.model import BridgeModel, NatModel, ReferenceModel, RouteModel
from galelb.testing.packets import frame
from galelb.testing.world import PRIVATE

pytestmark = pytest.mark.bpf

FLOWS = 1000
DRAWS = 100_000
PORTS_OF_A_CLIENT = 16_384
ENDS = {4: ("100.64.0.0", "198.51.100.1"), 6: ("2001:db8:9::6440:0", "2001:db8:1::1")}
SADDR, DADDR, TRANSPORT = {4: 26, 6: 34}, {4: 30, 6: 50}, {4: 34, 6: 54}
CHECKSUMS = {4: (24, 50), 6: (70,)}
"""Where a frame has checksums, which the wrapper leaves as they are in its template."""
PROGRAMS = """
struct flow { u32 saddr; u32 daddr; u32 ports; u32 pad; };
GALE_MAP("hash", struct flow, u64, seen, 65536, 0)
int count(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	struct flow flow = {};
	u64 one = 1, *known;

	if (data + TRANSPORT + 4 > (void *)(long)ctx->data_end)
		return 0;
	flow.saddr = *(u32 *)(data + SADDR);
	flow.daddr = *(u32 *)(data + DADDR);
	flow.ports = *(u32 *)(data + TRANSPORT);
	known = seen.lookup(&flow);
	if (known)
		*known += 1;
	else
		seen.update(&flow, &one);
	return 3;
}
int pass(struct xdp_md *ctx)
{
	return 2;
}
int drop(struct xdp_md *ctx)
{
	return 1;
}
"""
MODELS = {
    "l2_bridge": BridgeModel,
    "l3_route ipip": lambda: RouteModel("ipip"),
    "l3_route gue": lambda: RouteModel("gue"),
    "l3_route none": lambda: RouteModel("none"),
    "l4_nat": lambda: NatModel(full_nat=True),
}
BOTH = pytest.mark.parametrize("version", [4, 6])


def flow_frame(version, number, flags="A"):
    """The frame of a flow as the wrapper makes it, but for where it has its bytes from."""
    client, vip = ENDS[version]
    high, low = divmod(number, PORTS_OF_A_CLIENT)

    def made(src, port):
        return frame(str(src), vip, port, 80, flags=flags, payload=b"x" * 6)

    data, template = bytearray(made(ip_address(client) + high, 1024 + low)), made(client, 1024)
    for at in CHECKSUMS[version]:
        data[at : at + 2] = template[at : at + 2]
    return bytes(data)


@contextmanager
def programs(sandbox, version):
    """Programs of the test's own by name (fds), and what `count` has seen."""
    defines = {
        "SADDR": SADDR[version],
        "DADDR": DADDR[version],
        "TRANSPORT": TRANSPORT[version],
    }
    compiled = sandbox.compile(PROGRAMS, dict.fromkeys(("count", "pass", "drop"), "xdp"), defines)
    maps = open_maps(compiled.maps)
    fds = {name: syscalls.obj_get(one.pin) for name, one in compiled.programs.items()}
    try:
        yield fds, maps["seen"]
    finally:
        close_maps(maps)
        for fd in fds.values():
            os.close(fd)


def draw(version, packets, **options):
    """Return how often each flow was drawn: addresses' last words and ports, as they lie."""
    with Sandbox() as sandbox, programs(sandbox, version) as (fds, seen):
        with Wrapper(sandbox, flow_frame(version, 0), FLOWS, **options) as wrapper:
            wrapper.run(fds["count"], 1, packets)
        return {(flow["saddr"], flow["daddr"], flow["ports"]): n for flow, n in seen.items()}


@BOTH
def test_in_turn_every_flow_comes_once(version):
    seen = draw(version, FLOWS, in_turn=True)

    assert FLOWS == len(seen)
    assert {1} == set(seen.values())


@BOTH
def test_at_random_every_flow_comes_about_equally_often(version):
    seen = draw(version, DRAWS)

    mean = DRAWS / FLOWS
    assert FLOWS == len(seen)
    assert mean / 2 < min(seen.values()) <= max(seen.values()) < 2 * mean


@BOTH
def test_flows_of_a_table_are_what_packets_have(version):
    flows = [
        Flow(bytes([10, 1, n >> 8, n & 255]), bytes([10, 2, n >> 8, n & 255]), struct.pack("!I", n))
        for n in range(FLOWS)
    ]

    seen = draw(version, FLOWS, in_turn=True, flows=flows)

    wanted = {struct.unpack("=3I", f.saddr + f.daddr + f.ports) for f in flows}
    assert wanted == seen.keys()
    assert {1} == set(seen.values())


@BOTH
def test_the_floor_sends_back_what_it_got(version):
    number = PORTS_OF_A_CLIENT + 7
    with (
        Sandbox() as sandbox,
        Wrapper(sandbox, flow_frame(version, 0), 2 * number, in_turn=True) as wrapper,
    ):
        result = wrapper.run(wrapper.floor, 1, number + 1)

    assert flow_frame(version, number) == result.data


@pytest.mark.parametrize("name", ["pass", "drop"])
def test_a_program_that_does_not_send_is_refused(name):
    with (
        Sandbox() as sandbox,
        programs(sandbox, 4) as (fds, _),
        Wrapper(sandbox, flow_frame(4, 0), FLOWS) as wrapper,
        pytest.raises(RefusedError, match="sends nothing"),
    ):
        wrapper.time(fds[name], 1, 10, 1)


@BOTH
@pytest.mark.parametrize("kind", MODELS)
def test_programs_get_and_send_what_the_model_says(kind, version):
    """One flow is opened outside of the wrapper; within it comes last, after all others."""
    forwarder, _, encap = kind.partition(" ")
    number = PORTS_OF_A_CLIENT + 7
    case = Case(forwarder=forwarder, encap=encap, version=version, flows=number + 1)
    with Sandbox() as sandbox, runner_of(case, sandbox, Plugins.discover()) as runner:
        bench = Bench(case, runner)
        model = ReferenceModel(runner, {forwarder: MODELS[kind]()})

        def run(flags):
            data = flow_frame(version, number, flags)
            return sandbox.run(lambda: step(model, data, PRIVATE, runner.run_inside))

        _, _, problems = run("S")
        assert not problems
        with bench.wrapper("A", in_turn=True) as wrapper:
            result = wrapper.run(runner.entry_fd, bench.ifindex, case.flows)
        prediction, outcome, problems = run("A")

    assert prediction is not None
    assert not problems
    assert outcome.data == result.data


@BOTH
def test_answers_reach_as_many_clients_as_there_are_flows(version):
    case = Case(forwarder="l4_nat", version=version, flows=100, answers=True)
    clients = set()
    with Sandbox() as sandbox, runner_of(case, sandbox, Plugins.discover()) as runner:
        bench = Bench(case, runner)
        answers = bench.establish()
        with bench.wrapper("A", answers, in_turn=True) as wrapper:
            for _ in range(case.flows):
                packet = dissect(wrapper.run(runner.entry_fd, bench.ifindex, 1).data)
                assert (ENDS[version][1], 80) == (str(packet.src), packet.sport)
                clients.add((str(packet.dst), packet.dport))

    assert {(ENDS[version][0], 1024 + n) for n in range(case.flows)} == clients


@BOTH
def test_answers_are_sent_as_the_model_says(version):
    """The floor shows what the wrapper makes, and the model says what is to become of it."""
    case = Case(forwarder="l4_nat", version=version, answers=True)
    with Sandbox() as sandbox, runner_of(case, sandbox, Plugins.discover()) as runner:
        bench = Bench(case, runner)
        model = ReferenceModel(runner, {"l4_nat": NatModel(full_nat=True)})

        def run(data):
            return sandbox.run(lambda: step(model, data, PRIVATE, runner.run_inside))

        _, _, problems = run(flow_frame(version, 0, "S"))
        assert not problems
        with bench.wrapper("SA", bench.answers()) as wrapper:
            made = wrapper.run(wrapper.floor, bench.ifindex, 1).data
            result = wrapper.run(runner.entry_fd, bench.ifindex, 1)
        prediction, outcome, problems = run(made)

    assert prediction is not None
    assert not problems
    assert made != result.data == outcome.data


@BOTH
def test_new_flows_are_all_new_and_none_is_lost(version):
    case = Case(forwarder="l4_nat", version=version, flows=500, new=True)
    with Sandbox() as sandbox, runner_of(case, sandbox, Plugins.discover()) as runner:
        Bench(case, runner).time()

        view = runner.view(runner.forwarder)
        flows = list(runner.forwarder.flows(runner.datapath, view, limit=2 * case.flows_in_all))

    assert case.flows_in_all == len(flows)
    assert case.flows_in_all == len({(one.client, one.client_port) for one in flows})


def test_a_result_is_refused_when_some_packets_were_not_forwarded():
    case = Case(forwarder="l2_bridge", flows=1000, new=True, nodes=100)
    with Sandbox() as sandbox, runner_of(case, sandbox, Plugins.discover()) as runner:
        node = runner.world.nodes[0]
        runner.set_next_hop(node.index, runner.world.private, node.mac, flags=NextHopFlag(0))
        with pytest.raises(RefusedError, match=f"of {1000 * ROUNDS} packets .*NO_NEIGHBOUR"):
            Bench(case, runner).time()


def test_a_pattern_chooses_cases_by_name():
    names = [case.name for case in chosen("l4_nat IPv6, *new flows")]

    assert 1 == len(names)
    assert cases() == chosen("*")
    with pytest.raises(RefusedError, match='no case has a name like "l5"'):
        chosen("l5")


def test_a_case_is_measured_with_its_floor():
    measured = measure(Case(forwarder="l2_bridge", flows=100, new=True), Plugins.discover())

    assert "l2_bridge IPv4, 100 new flows" == measured["case"]
    assert 0 < measured["floor_ns"]["min"]
    assert 0 < measured["ratio"]["min"]
