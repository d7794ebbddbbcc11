# SPDX-License-Identifier: Apache-2.0
"""Builds a lab, starts and kills its hosts, takes it down; blocking, safe to interrupt."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from galelb.bpf.artefacts import Artefacts
from galelb.bpf.bpffs import ensure_bpffs
from galelb.bpf.find_bcc import find_bcc
from galelb.datapath.machine import cache_folder
from galelb.errors import LabError
from galelb.group.key_file import create_keys, write_keys
from galelb.lab.bird import bird_command
from galelb.lab.configs import config_files
from galelb.lab.etcd import etcd_command
from galelb.lab.hosts import LAB_RUN_DIR, Host, Plan, Role
from galelb.lab.mounts import unmount_below
from galelb.lab.processes import in_namespaces, kill, spawn
from galelb.lab.spec import LabSpec
from galelb.lab.state import LabState, labs, locked
from galelb.lab.topology import build_topology, namespaces_of, nsenter, remove_namespaces

__all__ = ["build_lab", "clean_stale", "commands", "kill_host", "start_host", "take_down"]


def build_lab(spec: LabSpec, run_dir: Path = LAB_RUN_DIR) -> LabState:
    """Build a lab whose hosts are still idle; it belongs to the calling process.

    Cleans up what dead owners left behind first. On any failure nothing remains. Raises
    LabError or EnvironmentProblem.
    """
    _check_compiler()
    with locked(run_dir):
        clean_stale(run_dir)
        state = _register(spec, run_dir)
    try:
        state.plan.directory.mkdir(parents=True, mode=0o755)
        build_topology(state.plan)
        _write_files(state.plan)
    except BaseException:
        take_down(state)
        raise
    return state


def _check_compiler() -> None:
    """Say at once that there is no compiler, not after a minute of waiting for balancers."""
    if not Artefacts(cache_folder()).any():
        find_bcc()


def start_host(state: LabState, host: Host) -> None:
    """Start what runs on a host; LabError when it runs already."""
    if host.name in state.running:
        raise LabError(f"lab {state.spec.name}: {host.name} runs already")
    if host.role is Role.BALANCER:
        # Mounted here, in the host's mount namespace: it has to outlive the balancer.
        ensure_bpffs(host.instance / "bpf")
    state.processes[host.name] = []
    for kind, argv in commands(state.plan, host).items():
        process = spawn(kind, nsenter(host.namespace, argv), host.log)
        state.processes[host.name].append(process)
        state.save()


def kill_host(state: LabState, host: Host) -> None:
    """Kill (-9) what runs on a host; the machine itself, its network and kernel, stays up."""
    kill(state.processes.get(host.name, []))
    state.save()


def take_down(state: LabState) -> None:
    """Remove everything of a lab: processes, namespaces, mounts, pins, files, the record.

    Signals are held back meanwhile; run again, it goes on where it was killed.
    """
    with _undisturbed():
        prefix = state.spec.prefix
        kill(process for processes in state.processes.values() for process in processes)
        # Catches what the record misses: helpers of the daemons, commands of `lab exec`.
        while strays := in_namespaces(namespaces_of(prefix)):
            kill(strays)
        remove_namespaces(prefix)
        directory = state.plan.directory
        unmount_below(directory)
        if directory.exists():
            shutil.rmtree(directory)
        state.forget()


def clean_stale(run_dir: Path = LAB_RUN_DIR) -> list[str]:
    """Take down the labs whose owner died; returns their names. Call under `locked`."""
    stale = [state for state in labs(run_dir) if state.stale]
    for state in stale:
        take_down(state)
    return [state.spec.name for state in stale]


def commands(plan: Plan, host: Host) -> dict[str, list[str]]:
    """Return what runs on a host, by kind; nothing on a client.

    Raises EnvironmentProblem when a program is not installed.
    """
    galelb = [sys.executable, "-m", "galelb"]
    match host.role:
        case Role.BALANCER:
            balancer = {"balancer": [*galelb, "run", "--config", str(host.config)]}
            return {"bird": bird_command(host)} | balancer if plan.spec.has_router else balancer
        case Role.NODE:
            return {
                "server": [sys.executable, "-m", "galelb.lab.server", "--name", host.name],
                "agent": [*galelb, "node", "--config", str(host.config)],
            }
        case Role.ROUTER:
            return {"bird": bird_command(host)}
        case Role.ETCD:
            return {"etcd": etcd_command(host)}
        case Role.CLIENT:
            return {}


def _write_files(plan: Plan) -> None:
    for host in plan.hosts:
        for path, text in config_files(plan, host).items():
            path.write_text(text)
    if plan.spec.is_group:
        write_keys(plan.key_file, create_keys(), new=True)


def _register(spec: LabSpec, run_dir: Path) -> LabState:
    for other in labs(run_dir):
        if other.spec.name == spec.name:
            raise LabError(
                f"a lab {spec.name!r} exists: `galelb lab down {spec.name}`, or another --name"
            )
        if other.spec.prefix == spec.prefix:
            raise LabError(f"lab {other.spec.name!r} uses the prefix {spec.prefix}: try again")
    state = LabState.new(spec, run_dir)
    state.save()
    return state


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM for a moment, so that cleaning up is not cut short."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
