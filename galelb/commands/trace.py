# SPDX-License-Identifier: Apache-2.0
"""`galelb trace`: why did these packets go where they went?"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from galelb.errors import ConfigError, EnvironmentProblem, PcapError

if TYPE_CHECKING:
    from galelb.pcap import Record
    from galelb.trace.scene import Given
    from galelb.trace.values import Place, Trace
    from galelb.trace.world import World

__all__ = ["trace_command"]

_FILE = click.Path(path_type=Path)


@click.command("trace")
@click.option("--pcap", type=_FILE, required=True, metavar="IN", help="Packets: pcap or pcapng.")
@click.option("--out", type=_FILE, metavar="OUT", help="Write what is sent to this pcap file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per packet.")
@click.option("--live", is_flag=True, help="Trace with copies of the running balancer's maps.")
@click.option("--config", type=_FILE, help="lb.toml; else ./lb.toml, /etc/galelb/lb.toml")
@click.option(
    "--plugin", "select", multiple=True, metavar="NAME", help="Use this plugin for its kind."
)
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="IP[,mac=MAC][,weight=N]",
    help="A routable node, beside the [[nodes]] of the configuration; may be repeated.",
)
@click.option(
    "--ingress", metavar="NAME", default="", help="The interface that packets come in by."
)
@click.option("--vip-mac", metavar="MAC", help="Of the interface towards the clients.")
@click.option("--src-mac", metavar="MAC", help="Of the interface towards the nodes.")
@click.option("--gateway-mac", metavar="MAC", help="Of the router to the clients.")
@click.option(
    "--private-address", multiple=True, metavar="IP", help="Of the interface towards the nodes."
)
@click.option(
    "--public-address", multiple=True, metavar="IP", help="Of the interface towards the clients."
)
@click.option("--mtu", type=click.IntRange(1280, 65535), help="Of all interfaces.  [default: 1500]")
def trace_command(
    pcap: Path,
    out: Path | None,
    as_json: bool,
    live: bool,
    config: Path | None,
    select: tuple[str, ...],
    nodes: tuple[str, ...],
    ingress: str,
    **network: Any,
) -> None:
    """Run the packets of a file through the programs and tell what becomes of each, and why.

    The programs are those that `galelb run` makes of the configuration, compiled to note their
    steps. Without --live no interface and no balancer need exist: a network is made up in a
    namespace of its own, and what was made up is printed. With --live the maps of the running
    balancer are copied, so that nodes, tables and flows are as they are now; it is not disturbed.
    """
    made_up = [name for name, value in network.items() if value]
    if live and (nodes or made_up):
        options = ["--node"] * bool(nodes) + [f"--{name.replace('_', '-')}" for name in made_up]
        raise click.UsageError(f"--live takes nodes and interfaces as they are: drop {options[0]}")
    if out is not None and out.resolve() == pcap.resolve():
        raise click.UsageError("--out is the file of --pcap: choose another one")
    large = _survey(pcap)
    if os.geteuid() != 0:
        raise EnvironmentProblem("galelb trace needs root: it loads BPF programs")
    with _world(live, config, select, nodes, network, large) as world:
        _check_ingress(ingress, world)
        _say_notes(world, as_json)
        _trace(pcap, world, ingress, out, as_json)


def _survey(pcap: Path) -> bool:
    """Look through the file before anything is compiled; return whether frames are large.

    Raises PcapError unless there is something to trace; what is wrong later is told later.
    """
    from galelb.datapath.request import MAX_PLAIN_MTU
    from galelb.pcap import read_pcap
    from galelb.trace.frames import SUPPORTED

    large, links = False, set[int]()
    try:
        for record in read_pcap(pcap):
            large = large or record.length > MAX_PLAIN_MTU
            links.add(record.link)
    except PcapError:
        if not links:
            raise
    if links and not links & SUPPORTED:
        raise PcapError(
            f"{pcap}: link type {min(links)} is not supported: Ethernet, raw IP, Linux cooked"
            " and loopback are"
        )
    return large


@contextlib.contextmanager
def _world(
    live: bool,
    path: Path | None,
    select: tuple[str, ...],
    nodes: tuple[str, ...],
    network: Mapping[str, Any],
    large: bool,
) -> Iterator[World]:
    from galelb.config import find_config, load_balancer_config
    from galelb.logs import configure_logging
    from galelb.plugins import Plugins
    from galelb.trace.scene import parse_nodes

    configure_logging("error")  # what a trace has to say of nodes is in its notes
    specified = parse_nodes(nodes)
    given = _given(network)
    plugins = Plugins.discover()
    config = load_balancer_config(find_config("lb.toml", path), plugins, select)
    if live:
        from galelb.trace.live import live_world

        with live_world(config, plugins, large=large) as world:
            yield world
    else:
        from galelb.trace.offline import offline_world

        with offline_world(config, plugins, specified, given, large=large) as world:
            yield world


def _given(network: Mapping[str, Any]) -> Given:
    from galelb.trace.scene import Given, parse_address, parse_mac

    values: dict[str, Any] = {}
    for name in ("vip_mac", "src_mac", "gateway_mac"):
        if network[name]:
            values[name] = parse_mac(network[name], f"--{name.replace('_', '-')}")
    for side in ("private", "public"):
        texts = network[f"{side}_address"]
        values[f"{side}_addresses"] = [parse_address(one, f"--{side}-address") for one in texts]
    if network["mtu"]:
        values["mtu"] = network["mtu"]
    return Given(**values)


def _check_ingress(ingress: str, world: World) -> None:
    names = world.place.interfaces
    if ingress and ingress not in names:
        raise ConfigError([f"--ingress {ingress}: not configured; there are {', '.join(names)}"])


def _say_notes(world: World, as_json: bool) -> None:
    """Tell what was made up, above the packets; beside them when programs read those."""
    for note in world.notes:
        click.echo(click.style(f"# {note}", dim=not as_json), err=as_json)


def _trace(pcap: Path, world: World, ingress: str, out: Path | None, as_json: bool) -> None:
    from galelb.pcap import PcapWriter, read_pcap
    from galelb.trace.tracer import Tracer

    counts: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        tracer = stack.enter_context(Tracer(world.generation, world.place, world.run, ingress))
        writer = stack.enter_context(PcapWriter(out)) if out is not None else None
        for record in read_pcap(pcap):
            if _left_a_balancer(record):
                counts["passed over (left a balancer)"] += 1
                continue
            trace = tracer.trace(record)
            counts[trace.reason.name.lower() if trace.reason is not None else "not run"] += 1
            _show(trace, world.place, as_json)
            if writer is not None and trace.out is not None:
                writer.write(trace.time_ns, trace.out, trace.out_length)
    if not as_json:
        click.echo(_total(counts))


def _left_a_balancer(record: Record) -> bool:
    """Whether `galelb capture` recorded it on its way out: what it came of is there, too."""
    return record.outbound and record.by_galelb


def _show(trace: Trace, place: Place, as_json: bool) -> None:
    if as_json:
        from galelb.trace.serialise import trace_json

        click.echo(json.dumps(trace_json(trace)))
        return
    from galelb.trace.explain import explain

    click.echo(f"\n{explain(trace, place)}")


def _total(counts: Counter[str]) -> str:
    from galelb.commands.text import plural

    parts = ", ".join(f"{count:,} {name}" for name, count in counts.most_common())
    return f"\n{plural(counts.total(), 'packet')}{': ' if parts else ''}{parts}"
