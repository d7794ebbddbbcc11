# SPDX-License-Identifier: Apache-2.0
"""A real `galelb run`: start to first forwarded packet, many nodes, many that join at once."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.control_daemon import Daemon, Probes, daemon, remove_instance
from bench.control_world import Network, lb_toml, node_address
from bench.figures import spread
from bench.machine import RefusedError

__all__ = ["large", "starts"]

_FEW = 10
_REST_S = 0.5
_PATIENCE = 60
_PLAN_S = "galelb_plan_duration_seconds_sum"
_PLANS = "galelb_plan_duration_seconds_count"


@contextlib.contextmanager
def _folder(network: Network, **sizes: Any) -> Iterator[tuple[Path, Path]]:
    """Make an instance's folder with lb.toml, and one for caches; nothing stays."""
    with tempfile.TemporaryDirectory(prefix="gale-bench-") as name:
        folder, caches = Path(name, "run"), Path(name, "caches")
        folder.mkdir()
        config = lb_toml(folder, **sizes)
        try:
            yield config, caches
        finally:
            remove_instance(network, config)


def starts(network: Network, forwarder: str, rounds: int) -> dict[str, Any]:
    """Return milliseconds from the start of the process to the first packet at a node.

    `cold`: nothing was ever compiled. `known`: as after a boot, programs of the same text were
    compiled before. `adopted`: restarted over its programs, which went on forwarding; then it
    is the time until it is ready, and the packets that were lost meanwhile.
    """
    found = [_start(network, forwarder) for _ in range(rounds)]
    return {
        "forwarder": forwarder,
        "nodes": _FEW,
        **{
            key: spread([one[key] for one in found])
            for key in found[0]
            if not isinstance(found[0][key], dict)
        },
        "memory_mb": found[0]["memory_mb"],
    }


def _start(network: Network, forwarder: str) -> dict[str, Any]:
    sizes = {"forwarder": forwarder, "nodes": _FEW, "services": 1}
    with _folder(network, **sizes) as (config, caches):
        cold, cold_ready, _ = _first(network, config, caches)
        remove_instance(network, config)
        config.parent.mkdir(exist_ok=True)
        known, known_ready, memory = _first(network, config, caches)
        adopted = _restart(network, config, caches)
    return {
        "cold_ms": cold,
        "cold_ready_ms": cold_ready,
        "known_ms": known,
        "known_ready_ms": known_ready,
        **adopted,
        "memory_mb": memory,
    }


def _first(
    network: Network, config: Path, caches: Path
) -> tuple[float, float, Mapping[str, float]]:
    with Probes(network) as probes, daemon(network, config, caches) as balancer:
        first = probes.first_after(balancer.began) - balancer.began
        ready = balancer.wait("ready")
        time.sleep(_REST_S)
        return 1000 * first, 1000 * ready, balancer.memory()


def _restart(network: Network, config: Path, caches: Path) -> dict[str, float]:
    with Probes(network) as probes, daemon(network, config, caches) as balancer:
        first = probes.first_after(balancer.began) - balancer.began
        ready = balancer.wait("ready")
        time.sleep(_REST_S)
        sent = probes.sent
        time.sleep(_REST_S)
    lost = sent - len({number for number, _ in probes.arrived if number < sent})
    return {"adopted_ms": 1000 * first, "adopted_ready_ms": 1000 * ready, "adopted_lost": lost}


def large(
    network: Network, forwarder: str, *, nodes: int, services: int, changes: int
) -> dict[str, Any]:
    """Return what many nodes and services cost: their joining at once, memory, one change.

    A balancer with one node and all services learns the other nodes, whose MAC addresses it has
    to ask for, by a reload. Afterwards the weights of some are changed, one by one.
    """
    sizes: dict[str, Any] = {"forwarder": forwarder, "services": services, "macs": False}
    with (
        _folder(network, nodes=1, **sizes) as (config, caches),
        daemon(network, config, caches) as balancer,
    ):
        balancer.wait("ready")
        balancer.wait_for_nodes(1)
        small = balancer.memory()
        lb_toml(config.parent, nodes=nodes, **sizes)
        began = time.perf_counter()
        balancer.process.send_signal(signal.SIGHUP)
        joined = balancer.wait_for_nodes(nodes) - began
        time.sleep(_REST_S)
        with balancer.client() as client:
            lag = client.get("status")["event_loop_lag_s"]
            plans = []
            for number in range(changes):
                before = _rested(balancer)
                client.set_weight(str(node_address(number)), 7)
                plans.append(1000 * _next_plan(balancer, before))
        return {
            "forwarder": forwarder,
            "nodes": nodes,
            "services": services,
            "joined_s": round(joined, 2),
            "lag_ms": round(1000 * lag, 1),
            "change_ms": spread(plans),
            "memory_mb": balancer.memory(),
            "memory_of_one_node_mb": small,
        }


def _rested(balancer: Daemon) -> Mapping[str, float]:
    """Return what the balancer counted, once it has nothing to plan any more."""
    before = balancer.metrics()
    for _ in range(_PATIENCE):
        time.sleep(_REST_S)
        after = balancer.metrics()
        if after[_PLANS] == before[_PLANS]:
            return after
        before = after
    raise RefusedError("the balancer plans without an end")


def _next_plan(balancer: Daemon, before: Mapping[str, float]) -> float:
    """Return the seconds from a change to the end of its plan, which is the only one."""
    for _ in range(_PATIENCE):
        after = _rested(balancer)
        if after[_PLANS] != before[_PLANS]:
            break
    if after[_PLANS] - before[_PLANS] != 1:
        raise RefusedError("another number of plans than one for one change")
    return after[_PLAN_S] - before[_PLAN_S]
