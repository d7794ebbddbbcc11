# SPDX-License-Identifier: Apache-2.0
"""What the machine remembers of its labs: one file each, so that any run can clean up."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import attrs

from galelb.errors import EnvironmentProblem, GaleError, LabError
from galelb.lab.hosts import LAB_RUN_DIR, Host, Plan, host_json
from galelb.lab.plan import make_plan
from galelb.lab.processes import Process, is_alive, this_process
from galelb.lab.spec import DEFAULT_PLUGIN, LabSpec
from galelb.lab.topology import NETNS_DIR
from galelb.model import Protocol, Service

__all__ = ["LabState", "find_lab", "labs", "locked", "new_prefix", "new_spec"]

_EXAMPLE = Service(
    name="example",
    vip=ip_address("203.0.113.1"),
    port=80,
    protocol=Protocol.TCP,
    target_port=80,
    forwarder="",
)


@attrs.define(kw_only=True)
class LabState:
    """A lab as recorded: its spec, its owner and the processes that were started."""

    spec: LabSpec
    owner: Process
    kept: bool = False
    """Left up on purpose: it lives on after its owner."""
    processes: dict[str, list[Process]] = attrs.Factory(dict)
    """By host."""
    run_dir: Path = LAB_RUN_DIR

    @classmethod
    def new(cls, spec: LabSpec, run_dir: Path = LAB_RUN_DIR) -> LabState:
        """Return the state of a lab about to be built and owned by the calling process."""
        return cls(spec=spec, owner=this_process(), run_dir=run_dir)

    @property
    def plan(self) -> Plan:
        """Hosts, networks and VIPs."""
        return make_plan(self.spec, self.run_dir)

    @property
    def path(self) -> Path:
        """The file."""
        return self.run_dir / f"{self.spec.name}.json"

    @property
    def stale(self) -> bool:
        """Whether its owner died and left it behind."""
        return not self.kept and not is_alive(self.owner)

    @property
    def running(self) -> frozenset[str]:
        """Names of the hosts of which a process runs."""
        return frozenset(
            host for host, processes in self.processes.items() if any(map(is_alive, processes))
        )

    def save(self) -> None:
        """Write the file atomically."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_suffix(f".{os.getpid()}.tmp")
        scratch.write_text(json.dumps(self._recorded(), indent=1) + "\n")
        scratch.replace(self.path)

    def forget(self) -> None:
        """Remove the file; the last step of taking a lab down."""
        self.path.unlink(missing_ok=True)

    def public(self) -> dict[str, Any]:
        """Describe the lab for programs: `lab up --json` and `lab status --json`."""
        plan = self.plan
        return {
            "name": self.spec.name,
            "prefix": self.spec.prefix,
            "plugin": self.spec.plugin,
            "kept": self.kept,
            "directory": str(plan.directory),
            "networks": [attrs.asdict(network) for network in plan.networks],
            "hosts": [self._host(host) for host in plan.hosts],
            "vips": [attrs.asdict(vip) for vip in plan.vips],
        }

    def _host(self, host: Host) -> dict[str, Any]:
        processes = self.processes.get(host.name, [])
        alive = [process for process in processes if is_alive(process)]
        return host_json(host) | {
            "pids": [process.pid for process in alive],
            "running": len(alive) == len(processes),
        }

    def _recorded(self) -> dict[str, Any]:
        return self.public() | {
            "owner": attrs.asdict(self.owner),
            "spec": attrs.asdict(self.spec),
            "processes": {
                host: [attrs.asdict(process) for process in processes]
                for host, processes in self.processes.items()
            },
        }


def labs(run_dir: Path = LAB_RUN_DIR) -> list[LabState]:
    """Return every recorded lab, stale ones too."""
    return [_load(path) for path in sorted(run_dir.glob("*.json"))]


def find_lab(name: str | None, run_dir: Path = LAB_RUN_DIR) -> LabState:
    """Return the lab of this name, or the only one; LabError says which exist."""
    known = {path.stem: path for path in sorted(run_dir.glob("*.json"))}
    if name is None and len(known) == 1:
        return _load(next(iter(known.values())))
    if name is not None and name in known:
        return _load(known[name])
    if not known:
        raise LabError("no lab is up; `galelb lab up` starts one")
    names = ", ".join(known)
    raise LabError(f"no lab {name!r}; labs: {names}" if name else f"which lab? --name: {names}")


def new_prefix() -> str:
    """Return a prefix that no existing namespace uses."""
    while True:
        prefix = f"gale{secrets.token_hex(2)}"
        if not any(NETNS_DIR.glob(f"{prefix}-*")):
            return prefix


def new_spec(name: str | None = None, **values: Any) -> LabSpec:
    """Return a spec with a fresh prefix, which is its name too unless one is given.

    What the forwarder needs of the network is asked of the forwarder.
    """
    prefix = new_prefix()
    values = _needs_of(values.get("plugin", DEFAULT_PLUGIN), values.get("options", ())) | values
    return LabSpec(name=name or prefix, prefix=prefix, **values)


def _needs_of(plugin: str, options: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return what follows from the forwarder; what is wrong fails later, with a good reason."""
    import tomli

    from galelb.config.toml_json import parse_section
    from galelb.plugins import Plugins

    try:
        given = tomli.loads("".join(f"{key} = {value}\n" for key, value in options))
        kind = Plugins.discover().forwarder(plugin)
        forwarder = kind(parse_section(kind.Options, given))
    except (GaleError, ValueError, TypeError):
        return {}
    kinds = {setup.kind for setup in forwarder.node_setups(_EXAMPLE)}
    return {
        "direct": "vip_on_lo" in kinds,
        "any_family": forwarder.any_family,
        "stateless": not forwarder.stateful,
        "translates": "source_addresses" in kind.Options.model_fields.keys() - given.keys(),
    }


@contextlib.contextmanager
def locked(run_dir: Path = LAB_RUN_DIR) -> Iterator[None]:
    """Hold the lock under which labs are named, recorded and cleaned up."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        file = (run_dir / ".lock").open("w")
    except PermissionError:
        raise EnvironmentProblem("the lab needs root: run it with sudo") from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _load(path: Path) -> LabState:
    try:
        data = json.loads(path.read_text())
        processes = data["processes"].items()
        return LabState(
            spec=LabSpec.from_json(data["spec"]),
            owner=Process(**data["owner"]),
            kept=data["kept"],
            processes={host: [Process(**item) for item in items] for host, items in processes},
            run_dir=path.parent,
        )
    except (ValueError, KeyError, TypeError, GaleError) as error:
        raise LabError(
            f"{path}: not a lab of this version ({error!r}); delete its namespaces with "
            f"`ip netns delete`, then the file"
        ) from None
