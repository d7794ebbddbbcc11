# SPDX-License-Identifier: Apache-2.0
"""`galelb events`: what happened to nodes, tables, peers and the configuration, and happens."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from galelb.api.limits import MAX_EVENTS
from galelb.commands.status import with_client
from galelb.errors import ApiError

if TYPE_CHECKING:
    from galelb.client import ApiClient

__all__ = ["events_command"]

AGAIN_S = 1.0
GAP = "gap"


@click.command("events")
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_EVENTS),
    default=20,
    show_default=True,
    help="How many to show of what happened.",
)
@with_client
def events_command(client: ApiClient, as_json: bool, follow: bool, limit: int) -> None:
    """Show what happened: nodes, tables, peers, interfaces, configuration.

    With --json each event is one line.
    """
    recent = client.get("events/recent", limit=limit)["events"]
    for event in recent:
        _print(event, as_json)
    if not follow:
        if not recent and not as_json:
            click.echo("Nothing has happened since the balancer started.")
        return
    try:
        for event in _following(client, recent[-1]["id"] if recent else None):
            _print(event, as_json)
    except KeyboardInterrupt:
        return


def _following(client: ApiClient, last_id: str | None) -> Iterator[Mapping[str, Any]]:
    """Yield events for ever; a balancer that is gone is waited for, and that is said once."""
    waiting = False
    while True:
        try:
            with client.events(last_id) as events:
                waiting = False
                for event in events:
                    last_id = event["id"]
                    yield event
                    if event["event"] == GAP:
                        yield from _before(client, last_id)
            problem = "the balancer ended the events"
        except ApiError as error:
            problem = str(error)
        if not waiting:
            click.echo(f"{problem}: waiting for it", err=True)
        waiting = True
        time.sleep(AGAIN_S)


def _before(client: ApiClient, gap_id: str) -> Iterator[Mapping[str, Any]]:
    """Yield what is still known from before a gap was told, for example of a balancer's start."""
    start, _, number = gap_id.rpartition("-")
    for event in client.get("events/recent", limit=MAX_EVENTS)["events"]:
        of, _, count = event["id"].rpartition("-")
        if of == start and int(count) <= int(number):
            yield event


def _print(event: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(event))
        return
    from galelb.commands.event_lines import event_line

    click.echo(event_line(event))
