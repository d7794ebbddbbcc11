# SPDX-License-Identifier: Apache-2.0
"""Runs the playbooks over ssh on machines of a test, from beside them on their network."""

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import trio

from e2e.hosts.model import Client
from galelb.lab.http_client import Target
from tests.machines.group import Machines
from tests.machines.machine import Machine

__all__ = ["NAMES", "VIP", "WEB", "Deployment", "Neighbour", "Played", "main_pid"]

FOLDER = Path(__file__).parents[2] / "ansible"
NAMES = ["lb-0", "lb-1", "node-0"]
VIP = "10.77.0.100"
WEB = Target(VIP, 80)
_MOST_S = 600
_RECAP = re.compile(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+) ", re.M)


def main_pid(machine: Machine) -> str:
    """Return the process id of the daemon on a machine, "0" without one."""
    unit = "galelb-node" if machine.name.startswith("node") else "galelb"
    return machine.run("systemctl", "show", "--property=MainPID", "--value", unit).strip()


@attrs.frozen
class Neighbour(Client):
    """The test itself, as a client on the machines' network."""

    found: Machines
    name: str = "test"
    python: str = sys.executable

    def command(self, *argv: str) -> list[str]:
        """Return the command that runs beside the machines."""
        return self.found.network.inside(argv)


@attrs.frozen
class Played:
    """What a run of a playbook came to."""

    code: int
    text: str

    @property
    def changed(self) -> dict[str, int]:
        """How many tasks changed something, by host."""
        return {host: int(changed) for host, changed, _, _ in _RECAP.findall(self.text)}


@attrs.define
class Deployment:
    """An inventory of the machines, and the playbooks."""

    found: Machines
    wheels: Path
    key: str
    """The content of the group's key file."""
    work: Path

    async def play(self, *playbooks: str, good: bool = True, **variables: Any) -> Played:
        """Run playbooks; `variables` go over those of the inventory."""
        hosts = self.work / "hosts.json"
        hosts.write_text(json.dumps(self._inventory()))
        more = self.work / "more.json"
        more.write_text(json.dumps(variables))
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        argv = [program, "-i", str(hosts), "-e", f"@{more}", *playbooks]
        with trio.fail_after(_MOST_S):
            done = await trio.run_process(
                self.found.network.inside(argv),
                capture_stdout=True, capture_stderr=True, check=False, cwd=FOLDER,
                env=self._environment(), stdin=b"",
            )  # fmt: skip
        played = Played(done.returncode, (done.stdout + done.stderr).decode())
        assert good == (played.code == 0), played.text
        assert self.key.split()[-1] not in played.text, "the group's key is in the output"
        return played

    def balancers(self) -> dict[str, Any]:
        """`lb_config`: a group with one card each that serves one VIP."""
        members = [self.found[name] for name in self.found if name.startswith("lb")]
        return {
            "private_interface": {"net_interface_private": "eth0"},
            "public_interface": {"net_interface_public": "eth0"},
            "load_balancer_quorum": {
                "transport": "sync_gossip",
                "name": "{{ inventory_hostname }}",
                "addresses": [{"ip": machine.address} for machine in members],
            },
            "announce": {"plugin": "announce_arp"},
            "services": [{"name": "web", "vip": VIP, "port": 80, "target_port": 8080}],
            "plugins": {"sync_gossip": {"key_file": "/etc/galelb/group.key"}},
        }

    def _inventory(self) -> dict[str, Any]:
        names = {"lb": [], "node": []}
        for name in self.found:
            names["lb" if name.startswith("lb") else "node"].append(name)
        members = [{"ip": self.found[name].address} for name in names["lb"]]
        check = {"name": "web", "type": "http", "url": "http://127.0.0.1:8080/"}
        lb = {"lb_config": self.balancers(), "lb_group_key": self.key}
        node = {"node_config": {"load_balancer": {"addresses": members}, "checks": [check]}}
        options = " ".join(self.found[names["lb"][0]].ssh_options)
        everybody = {
            "ansible_user": "root",
            "ansible_ssh_common_args": options,
            "galelb_wheel": str(next(self.wheels.glob("galelb-*.whl"))),
            "galelb_wheelhouse": str(self.wheels),
        }
        children = {
            "lb": {"vars": lb, "hosts": {one: self._host(one) for one in names["lb"]}},
            "node": {"vars": node, "hosts": {one: self._host(one) for one in names["node"]}},
        }
        return {"all": {"vars": everybody, "children": children}}

    def _host(self, name: str) -> Mapping[str, Any]:
        """A translation address for each balancer, which moves when it is restarted."""
        own = {"plugins": {"l4_nat": {"source_addresses": [f"10.77.0.20{name[-1]}"]}}}
        where = {"ansible_host": self.found[name].address}
        return where | {"lb_config_host": own} if name.startswith("lb") else where

    def _environment(self) -> dict[str, str]:
        ours = {
            "ANSIBLE_CONFIG": str(FOLDER / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.work / "ansible"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.found.work / "cp"),
            "LANG": "C.UTF-8",
        }
        return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | ours
