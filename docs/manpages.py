# SPDX-License-Identifier: Apache-2.0
"""Writes the manual pages in docs/man from the commands and the configuration models.

`python docs/generate.py` calls it; a test compares. Pages are in mdoc(7).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
from command_list import Entry, entries, option_names, plain, usage_words
from pydantic import BaseModel

from galelb.cli import COMMANDS
from galelb.config import models
from galelb.config import node as node_config
from galelb.config.option_schema import OptionInfo, describe_model

MAN = Path(__file__).parent / "man"
LICENCE = '.\\" SPDX-License-Identifier: Apache-2.0\n'
DATE = "November 26, 2026"
"""Of the last change of the layout: a page must not differ from day to day."""
EXIT = (
    ("0", "success"),
    ("1", "a failure at run time, or what was looked at is not well"),
    ("2", "bad usage or configuration"),
    ("3", "the machine cannot do it: no root, no BPF"),
    ("130", "interrupted by Ctrl-C"),
)
FILES = (
    ("/etc/galelb/lb.toml", "configuration of a balancer, lb.toml(5)"),
    ("/etc/galelb/node.toml", "configuration of a node's agent, node.toml(5)"),
    ("/run/galelb", "sockets, pinned programs and maps, and what a restart adopts"),
)
LB = (
    ("[instance]", models.InstanceSection),
    ("[private_interface]", models.PrivateInterfaceSection),
    ("[public_interface]", models.PublicInterfaceSection),
    ("[node_health]", models.NodeHealthSection),
    ("[load_balancer_quorum]", models.QuorumSection),
    ("[[load_balancer_quorum.addresses]]", models.PeerAddress),
    ("[forwarding]", models.ForwardingSection),
    ("[announce]", models.AnnounceSection),
    ("[[services]]", models.ServiceSection),
    ("[[nodes]]", models.NodeSection),
)
NODE = (
    ("[load_balancer]", node_config.LoadBalancerSection),
    ("[[load_balancer.addresses]]", node_config.BalancerAddress),
    ("[node]", node_config.NodeSettings),
    ("[api]", node_config.ApiSection),
    ("[[checks]]", node_config.CheckSection),
)
LB_EXAMPLE = """[private_interface]
net_interface_private = "eth0"

[public_interface]
net_interface_public = "eth1"

[[services]]
name = "web"
vip = "203.0.113.10"
port = 80
target_port = 8080
"""
NODE_EXAMPLE = """[load_balancer]
addresses = [ { ip = "192.168.1.2" } ]

[[checks]]
name = "web"
type = "http"
url = "http://127.0.0.1:8080/health"
"""


def text(words: str) -> str:
    """Return text as roff takes it literally, a sentence a line."""
    escaped = plain(words).replace("\\", "\\e").replace("-", "\\-")
    lines = re.sub(r"(?<=[a-z0-9)\"][.:]) (?=[A-Z])", "\n", " ".join(escaped.split())).split("\n")
    return "\n".join(f"\\&{line}" if line[:1] in ".'" else line for line in lines)


def argument(words: str) -> str:
    """Return text for a macro's line, where words may be names of macros and quotes count."""
    escaped = text(words).replace("\n", " ").replace('"', "\\(dq")
    return " ".join(f"\\&{word}" for word in escaped.split())


def head(title: str, section: int, name: str, meaning: str) -> str:
    """Return the beginning of a page."""
    short = argument(meaning.rstrip("."))
    return (
        f"{LICENCE}.Dd {DATE}\n.Dt {title.upper()} {section}\n.Os\n"
        f".Sh NAME\n.Nm {name}\n.Nd {short}\n"
    )


def items(rows: Iterator[tuple[str, str]], style: str = "Ic") -> str:
    """Return a list of terms, each with what it means."""
    body = "".join(f".It {style} {argument(term)}\n{text(about)}\n" for term, about in rows)
    return f".Bl -tag -width Ds\n{body}.El\n"


def see_also(*pages: tuple[str, int]) -> str:
    """Return the last section, in the order that is usual."""
    ordered = sorted(pages, key=lambda page: (page[1], page[0]))
    lines = [f".Xr {name} {section} ," for name, section in ordered]
    return ".Sh SEE ALSO\n" + "\n".join(lines).removesuffix(" ,") + "\n"


def main_page() -> str:
    """Return galelb(1): what there is, and what holds for all commands."""
    every = ((name, about) for name, (_, about) in COMMANDS.items())
    environment = (
        ("GALELB_API", "stands for --api"),
        ("GALELB_TOKEN_FILE", "stands for --token-file"),
        ("GALELB_DEBUG", "1 stands for --debug"),
    )
    return (
        head("galelb", 1, "galelb", "load balancer that forwards by XDP and TC")
        + ".Sh SYNOPSIS\n.Nm\n.Op Fl \\-debug\n.Ar command\n.Op Ar argument ...\n"
        + ".Sh DESCRIPTION\nPackets are forwarded in the kernel; what decides is Python.\n"
        + "Each command has a page of its own, such as\n.Xr galelb-run 1 .\n"
        + items(every)
        + ".Pp\nPlugins may add commands.\n"
        + "Commands find a balancer by the lb.toml that names its instance: "
        + text("--config, else ./lb.toml, else /etc/galelb/lb.toml.")
        + "\n.Sh ENVIRONMENT\n"
        + items(iter(environment), "Ev")
        + ".Sh FILES\n"
        + items(iter(FILES), "Pa")
        + ".Sh EXIT STATUS\n"
        + items(iter(EXIT), "Li")
        + see_also(("lb.toml", 5), ("node.toml", 5), *((f"galelb-{name}", 1) for name in COMMANDS))
    )


def command_page(name: str) -> str:
    """Return the page of a command, with those below it."""
    first, *below = entries(name)
    parts = [
        head(f"galelb-{name}", 1, f"galelb-{name}", COMMANDS[name][1]),
        ".Sh SYNOPSIS\n",
        *(f".Nm galelb {argument(one.name)}\n{usage(one)}" for one in (first, *below)),
        f".Sh DESCRIPTION\n{paragraphs(first)}{options(first)}",
        *(f".Ss galelb {argument(one.name)}\n{paragraphs(one)}{options(one)}" for one in below),
        ".Sh EXIT STATUS\nAs for\n.Xr galelb 1 .\n",
    ]
    related = [("galelb", 1), ("node.toml" if name == "node" else "lb.toml", 5)]
    return "".join(parts) + see_also(*related)


def usage(one: Entry) -> str:
    """Return the words after a command's name in its synopsis."""
    words = [f".Op Ar {argument(w[1:-1])}" if w.startswith("[") else f".Ar {argument(w)}"
             for w in usage_words(one.command)]  # fmt: skip
    return "".join(f"{word}\n" for word in words)


def paragraphs(one: Entry) -> str:
    """Return what the help of a command says."""
    found = [part for part in (one.command.help or "").replace("\b", "").split("\n\n") if part]
    return ".Pp\n".join(f"{text(part)}\n" for part in found)


def options(one: Entry) -> str:
    """Return the options of a command."""
    rows = ((option_names(option), option.help or "") for option in one.options)
    found = list(rows)
    return items(iter(found)) if found else ""


def file_page(name: str, meaning: str, example: str, sections: object) -> str:
    """Return the page of a configuration file."""
    rows: tuple[tuple[str, type[BaseModel]], ...] = sections  # type: ignore[assignment]
    parts = [
        head(name, 5, name, meaning),
        ".Sh DESCRIPTION\nA file in TOML.\n",
        ".Xr galelb-check 1\nreads it and names all mistakes at once.\n",
        "Durations are text such as\n.Dq 1m30s .\n",
        "Keys without a default that are not required are not set.\n",
    ]
    for title, model in rows:
        keys = describe_model(model)
        parts.append(f".Ss {argument(title)}\n{items((key.name, about(key)) for key in keys)}")
    if name == "lb.toml":
        parts.append(
            ".Ss [plugins.NAME]\nEach plugin has a section of its own;\n.Xr galelb-plugins 1\n"
            "shows their keys.\n"
        )
    literal = "".join(f"{argument(line) if line else '.Pp'}\n" for line in example.splitlines())
    parts.append(f".Sh EXAMPLES\n.Bd -literal -offset indent\n{literal.replace('.Pp', '')}.Ed\n")
    return "".join(parts) + see_also(("galelb", 1), ("galelb-check", 1))


def about(key: OptionInfo) -> str:
    """Return the type, the default and the meaning of a key."""
    default = "required" if key.required else f"default {key.default}" if key.default else ""
    return f"({', '.join(filter(None, (key.type, default)))}) {key.description or ''}"


def pages() -> dict[str, str]:
    """Return every page by the name of its file."""
    found = {"galelb.1": main_page()}
    found |= {f"galelb-{name}.1": command_page(name) for name in COMMANDS}
    found["lb.toml.5"] = file_page("lb.toml", "configuration of a balancer", LB_EXAMPLE, LB)
    found["node.toml.5"] = file_page(
        "node.toml", "configuration of the agent on a node", NODE_EXAMPLE, NODE
    )
    return found


def write() -> list[Path]:
    """Write the pages that are not current, remove those of no command, return both."""
    MAN.mkdir(exist_ok=True)
    current, changed = pages(), []
    for path in sorted(MAN.iterdir()):
        if path.name not in current:
            path.unlink()
            changed.append(path)
    for name, page in current.items():
        path = MAN / name
        if not path.exists() or path.read_text() != page:
            path.write_text(page)
            changed.append(path)
    return changed


if __name__ == "__main__":
    click.echo("\n".join(map(str, write())))
