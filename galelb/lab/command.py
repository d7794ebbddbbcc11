# SPDX-License-Identifier: Apache-2.0
"""The `galelb lab` commands."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from galelb.lab.hosts import CLIENTS, PRIVATE, PUBLIC
from galelb.lab.options import DURATION, make_spec, spec_options

__all__ = ["lab_group"]

_name = click.option("--name", metavar="LAB", help="Which lab; not needed when there is one.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
_network = click.option(
    "--network",
    type=click.Choice([PUBLIC, PRIVATE, CLIENTS]),
    help="Only this network; default: all.",
)


@click.group("lab")
def lab_group() -> None:
    """Build a network of clients, balancers and nodes on this machine.

    Everything lives in network namespaces of its own; the machine's network is not touched.
    """


@lab_group.command("up")
@spec_options
@_json
def up_command(as_json: bool, **options: Any) -> None:
    """Build a lab, wait until it works, and leave it running."""
    from galelb.lab.session import bring_up
    from galelb.lab.tables import print_lab

    state = bring_up(make_spec(**options))
    print_lab(state, as_json=as_json)


@lab_group.command("demo", short_help="Show traffic while hosts die and return.")
@spec_options
@_json
def demo_command(as_json: bool, **options: Any) -> None:
    """Show traffic through a lab of its own while hosts die and return; then remove it.

    Exits with 1 when anything failed that no event explains, or a node got nothing.
    """
    from galelb.lab.session import run_demo

    raise SystemExit(0 if run_demo(make_spec(**options), as_json=as_json) else 1)


@lab_group.command("down")
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Every lab of this machine.")
def down_command(name: str | None, everything: bool) -> None:
    """Remove a lab: processes, namespaces, mounts, files."""
    from galelb.lab.lab import take_down
    from galelb.lab.state import find_lab, labs, locked

    if name and everything:
        raise click.UsageError("give a NAME or --all, not both")
    with locked():
        for state in labs() if everything else [find_lab(name)]:
            take_down(state)
            click.echo(f"lab {state.spec.name} is gone", err=True)


@lab_group.command("status")
@_name
@_json
def status_command(name: str | None, as_json: bool) -> None:
    """Show the hosts of a lab and where to find their files."""
    from galelb.lab.state import find_lab
    from galelb.lab.tables import print_lab

    print_lab(find_lab(name), as_json=as_json)


@lab_group.command(
    "exec",
    short_help="Run a command on a host of the lab.",
    context_settings={"ignore_unknown_options": True},
)
@_name
@click.argument("host")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_command(name: str | None, host: str, command: tuple[str, ...]) -> None:
    """Run COMMAND on a host of the lab, for example `lab exec client1 -- ip address`."""
    from galelb.lab.state import find_lab
    from galelb.lab.topology import nsenter

    namespace = find_lab(name).plan.host(host).namespace
    argv = nsenter(namespace, list(command))
    os.execvp(argv[0], argv)  # noqa: S606 - what the user asked for, without a shell


def _on_host(name: str | None, host: str, action: Callable[..., None], **options: Any) -> None:
    from galelb.lab.state import find_lab, locked

    with locked():
        state = find_lab(name)
        action(state, state.plan.host(host), **options)


@lab_group.command("load", short_help="Hold connections open through a lab's VIPs.")
@_name
@click.option("--client", default="client1", show_default=True, help="Who opens them.")
@click.option(
    "--connections",
    type=click.IntRange(1, 10_000),
    default=1000,
    show_default=True,
    help="How many.",
)
@click.option(
    "--duration", type=DURATION, default="30s", show_default=True, help="From when all are open."
)
@click.option(
    "--every", type=DURATION, default="1s", show_default=True, help="How often each is used."
)
@_json
def load_command(name: str | None, client: str, as_json: bool, **job: Any) -> None:
    """Hold many connections open through the VIPs of a lab, with messages both ways.

    Kill and cut hosts meanwhile. Exits with 1 when a connection broke.
    """
    from galelb.lab.load_report import hold_load
    from galelb.lab.state import find_lab

    state = find_lab(name)
    held = {
        "connections": job["connections"],
        "duration_s": job["duration"],
        "every_s": job["every"],
    }
    well = hold_load(state, state.plan.host(client), held, as_json=as_json)
    raise SystemExit(0 if well else 1)


@lab_group.command("kill")
@_name
@click.argument("host")
def kill_command(name: str | None, host: str) -> None:
    """Kill (-9) what runs on a host; its kernel and network stay up."""
    from galelb.lab.lab import kill_host

    _on_host(name, host, kill_host)


@lab_group.command("start")
@_name
@click.argument("host")
@click.option("--no-wait", is_flag=True, help="Do not wait until the host is in use.")
def start_command(name: str | None, host: str, no_wait: bool) -> None:
    """Start what runs on a host again, and wait until the lab uses it."""
    from galelb.lab.lab import start_host
    from galelb.lab.session import wait_until_used
    from galelb.lab.state import find_lab

    _on_host(name, host, start_host)
    if not no_wait:
        wait_until_used(find_lab(name))


@lab_group.command("cut")
@_name
@_network
@click.option("--silent", is_flag=True, help="Lose all frames, but keep the carrier up.")
@click.argument("host")
def cut_command(name: str | None, network: str | None, silent: bool, host: str) -> None:
    """Unplug a host from the network."""
    from galelb.lab.topology import cut

    _on_host(
        name,
        host,
        lambda state, found: cut(state.plan, found, network, silent=silent),
    )


@lab_group.command("heal")
@_name
@_network
@click.argument("host")
def heal_command(name: str | None, network: str | None, host: str) -> None:
    """Plug a host in again."""
    from galelb.lab.topology import heal

    _on_host(name, host, lambda state, found: heal(state.plan, found, network))
