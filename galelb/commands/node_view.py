# SPDX-License-Identifier: Apache-2.0
"""What `galelb node status`, `stop` and `start` print for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from galelb.commands.status_tables import STATE_STYLES
from galelb.commands.text import (
    BAD,
    FAINT,
    GOOD,
    WARN,
    columns,
    duration,
    plain,
    styled,
    times,
)

__all__ = ["changed_view", "node_view"]

Json = Mapping[str, Any]


def node_view(status: Json) -> RenderableType:
    """Return the whole picture; its first line says whether the node serves."""
    parts: list[RenderableType] = [_headline(status), _identity(status)]
    parts += [Text(), _balancers(status["balancers"])]
    if status["checks"]:
        parts += [Text(), _checks(status["checks"])]
    host = list(_host(status["host"]))
    if host:
        parts += [Text(), *host]
    parts += [styled(f"Note: {note}", WARN) for note in status["notes"]]
    return Group(*parts)


def changed_view(status: Json) -> RenderableType:
    """Return what stop or start has brought about."""
    parts: list[RenderableType] = [_headline(status)]
    parts += [_heard(one, stopped=status["status"] == "stopped") for one in status["balancers"]]
    parts += [styled(f"Note: {note}", WARN) for note in status["notes"]]
    return Group(*parts)


def _headline(status: Json) -> Text:
    if status["status"] == "stopped":
        text = Text("Stopped by the operator", f"bold {WARN}")
        return text.append(": no new connections until `galelb node start`", "not bold")
    if status["health"] == "serving":
        heard = any(one["connected"] for one in status["balancers"])
        if heard:
            return Text("Serving", f"bold {GOOD}")
        return Text("Could serve, but no balancer is connected", f"bold {BAD}")
    return Text("NOT serving: ", f"bold {BAD}").append(plain(status["reason"]), "not bold")


def _heard(balancer: Json, *, stopped: bool) -> Text:
    name = balancer["name"]
    if not balancer["connected"]:
        return styled(f"{name} is not connected: it will hear of it when it is", WARN)
    if stopped and not balancer["draining"]:
        return styled(f"{name} has not answered yet", WARN)
    if stopped:
        return styled(f"{name} sends no new connections")
    return styled(f"{name}: {balancer['state'] or balancer['message'] or 'told'}")


def _identity(status: Json) -> Text:
    services = ", ".join(status["services"]) or "all"
    weight = "as the balancers say" if status["weight"] is None else status["weight"]
    lines = (
        f"{status['name']}, galelb {status['version']}, pid {status['pid']}, "
        f"up {duration(status['uptime_s'])}",
        f"weight {weight}, load {status['load']:.2f} per processor, services: {services}",
    )
    return Text("\n".join(plain(line) for line in lines), FAINT)


def _balancers(balancers: Sequence[Json]) -> Table:
    table = columns("BALANCER", "ADDRESS", "CONNECTED", "SEES IT AS", ">ANSWER", "NOTE")
    for one in balancers:
        table.add_row(
            styled(one["name"]),
            styled(one["address"] or "-"),
            _connected(one),
            _state(one),
            styled(_ago(one["answered_s"])),
            _trouble(one),
        )
    return table


def _connected(balancer: Json) -> Text:
    if balancer["connected"]:
        return Text(duration(balancer["connected_s"]), GOOD)
    if balancer["next_try_s"] is None:
        return Text("tries", WARN)
    return Text(f"no, tries in {duration(balancer['next_try_s'])}", BAD)


def _state(balancer: Json) -> Text:
    if not balancer["connected"]:
        return Text("-")
    if balancer["draining"]:
        return Text("draining", WARN)
    state = balancer["state"] or "unknown"
    return styled(state, STATE_STYLES.get(state, ""))


def _trouble(balancer: Json) -> Text:
    if not balancer["connected"]:
        return styled(balancer["error"], BAD)
    told = balancer["message"].removeprefix(f"{balancer['state']}: ")
    told = "" if told in {balancer["state"], "serving"} else told
    lost = f"lost {_ago(balancer['error_s'])}: {balancer['error']}" if balancer["error"] else ""
    return styled("; ".join(note for note in (told, lost) if note))


def _checks(checks: Sequence[Json]) -> Table:
    table = columns("CHECK", "TYPE", "STATE", ">RAN", "IN A ROW", "NOTE")
    for one in checks:
        passes = one["passes"]
        state = Text("not yet", WARN) if passes is None else Text("passes", GOOD)
        if passes is False:
            state = Text("fails", BAD)
        row = one["in_a_row"]
        table.add_row(
            styled(one["name"]),
            styled(one["type"]),
            state,
            styled(_ago(one["ran_s"])),
            styled(f"{'failed' if row < 0 else 'passed'} {times(abs(row))}" if row else "-"),
            styled(one["reason"]),
        )
    return table


def _host(host: Json) -> Iterator[Text]:
    if host["vips"]:
        yield styled(f"VIPs: {', '.join(host['vips'])}")
    if host["tunnels"]:
        ends = (f"{e['vip']} ({'gue' if e['port'] else 'ipip'})" for e in host["tunnels"])
        yield styled(f"Tunnels to: {', '.join(ends)}")
    changed = host["changed"]
    done = [f"{vip} on lo" for vip in changed["vips"]]
    done += [f"{one['name']}={one['after']}" for one in changed["sysctls"]]
    done += [f"{one['mode']} program on {one['interface']}" for one in changed["programs"]]
    if done:
        yield styled(f"Changed here, undone on leaving: {', '.join(done)}", FAINT)
    if unpacked := host["tunnel_packets"]:
        counts = (f"{name} {count:,}" for name, count in unpacked.items() if count)
        yield styled(f"Packets by the program: {', '.join(counts) or 'none'}", FAINT)
    if host["lacks"]:
        yield styled(f"This machine lacks something: {host['lacks']}", BAD)
    for command in host["mend"]:
        yield styled(f"  {command}", WARN)


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{duration(seconds)} ago"
