# SPDX-License-Identifier: Apache-2.0
"""What an Ansible inventory says of balancers, nodes and the client; reaches nobody."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from e2e.hosts.model import HostsError

__all__ = ["Inventory", "Place", "inventory_from", "read_inventory"]

_TIMEOUT_S = 120


@attrs.frozen(kw_only=True)
class Place:
    """Where a machine is, and how it is entered."""

    name: str
    host: str
    user: str = ""
    """Empty = whom ssh chooses."""
    port: int | None = None
    key_file: str = ""
    options: tuple[str, ...] = ()
    """More arguments of ssh."""


@attrs.frozen(kw_only=True)
class Inventory:
    """The places of each group, in the inventory's order."""

    balancers: tuple[Place, ...]
    nodes: tuple[Place, ...]
    client: Place | None
    """None = the machine that runs the tests."""


def read_inventory(files: Sequence[Path]) -> Inventory:
    """Read inventories as Ansible does. HostsError says what is wrong with them."""
    for file in files:
        if not file.exists():
            raise HostsError(f"{file}: no such inventory")
    return inventory_from(json.loads(_listed(files)), os.environ)


def inventory_from(listed: Mapping[str, Any], environment: Mapping[str, str]) -> Inventory:
    """Understand what `ansible-inventory --list` prints."""
    variables = listed.get("_meta", {}).get("hostvars", {})

    def group(name: str) -> tuple[Place, ...]:
        hosts = list(dict.fromkeys(_hosts_of(listed, name)))
        return tuple(_place(host, variables.get(host, {}), environment) for host in hosts)

    balancers, nodes, clients = group("lb"), group("node"), group("client")
    for name, found in (("lb", balancers), ("node", nodes)):
        if not found:
            raise HostsError(f"the inventory has no host in group {name!r}")
    if len(clients) > 1:
        raise HostsError("the inventory has more than one host in group 'client'")
    return Inventory(balancers=balancers, nodes=nodes, client=clients[0] if clients else None)


def _listed(files: Sequence[Path]) -> str:
    program = Path(sys.executable).with_name("ansible-inventory")
    command = str(program) if program.exists() else shutil.which("ansible-inventory")
    if command is None:
        raise HostsError("ansible-inventory is not installed: pip install ansible-core")
    chosen = [word for file in files for word in ("--inventory", str(file))]
    done = subprocess.run(
        [command, *chosen, "--list"],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise HostsError(f"ansible-inventory: {done.stderr.strip()}")
    return done.stdout


def _hosts_of(listed: Mapping[str, Any], name: str) -> list[str]:
    group = listed.get(name, {})
    below = [host for child in group.get("children", ()) for host in _hosts_of(listed, child)]
    return [*group.get("hosts", ()), *below]


def _place(name: str, variables: Mapping[str, Any], environment: Mapping[str, str]) -> Place:
    def value(key: str) -> str:
        return _rendered(name, key, variables, environment)

    words = shlex.split(f"{value('ansible_ssh_common_args')} {value('ansible_ssh_extra_args')}")
    port, key_file = value("ansible_port"), value("ansible_ssh_private_key_file")
    return Place(
        name=name,
        host=value("ansible_host") or name,
        user=value("ansible_user"),
        port=int(port) if port else None,
        key_file=str(Path(key_file).expanduser()) if key_file else "",
        options=tuple(words),
    )


def _rendered(
    host: str, key: str, variables: Mapping[str, Any], environment: Mapping[str, str]
) -> str:
    """Return a variable as text; "" when it is not set.

    `ansible-inventory` prints templates as they are. Of lookups only that of the environment is
    known here: all others would be plays that run.
    """
    text = str(variables.get(key, ""))
    if "{{" not in text:
        return text
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import SandboxedEnvironment

    def lookup(kind: str, name: str, **_: Any) -> str:
        if kind not in ("env", "ansible.builtin.env"):
            raise HostsError(f"{host}: {key}: lookup({kind!r}) is not known here: {text}")
        return environment.get(name, "")

    template = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    template.globals["lookup"] = lookup
    try:
        return template.from_string(text).render({**variables, "inventory_hostname": host})
    except TemplateError as error:
        raise HostsError(f"{host}: {key}: {text}: {error}") from None
