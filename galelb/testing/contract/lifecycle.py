# SPDX-License-Identifier: Apache-2.0
"""Planning, attaching, detaching, sizes: what happens around the packets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest
import trio

from galelb.abi import Reason
from galelb.bpf.attach import query_xdp
from galelb.bpf.pipeline import Context
from galelb.datapath.attacher import Attacher, Entries
from galelb.forwarder import BpfMap
from galelb.netlink import open_netlink
from galelb.plugins import Plugins
from galelb.testing.cases import Play
from galelb.testing.contract.stage import JUMBO, Stage, broken, of_kinds
from galelb.testing.corpus import Corpus
from galelb.testing.differential import compare
from galelb.testing.measure import STACK, measure
from galelb.testing.runner import PacketRunner
from galelb.testing.world import PRIVATE, PUBLIC

__all__ = ["LifecycleRules"]

SEED = 20_000


class CountingMap:
    """A map that counts what is written to it; for `Forwarder.plan`."""

    def __init__(self, inner: BpfMap, written: list[str]) -> None:
        self._inner = inner
        self._written = written
        self.name = inner.name
        self.max_entries = inner.max_entries

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def set(self, key: Any, leaf: Any) -> None:
        """Count and write."""
        self._written.append(f"{self.name} {key}")
        self._inner.set(key, leaf)

    def update(self, entries: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> None:
        """Count and write; nothing to write counts as nothing."""
        pairs = list(entries.items() if isinstance(entries, Mapping) else entries)
        self._written += [f"{self.name} {key}" for key, _ in pairs]
        self._inner.update(pairs)

    def delete(self, key: Any) -> None:
        """Count and delete."""
        self._written.append(f"{self.name} {key} (deleted)")
        self._inner.delete(key)

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Iterate over all entries."""
        return self._inner.items()

    def get(self, key: Any) -> Any | None:
        """Return the leaf."""
        return self._inner.get(key)


class LifecycleRules(Stage):
    """Part of the contract: around the packets, and packets of all sorts."""

    def test_mutated_packets_become_what_the_model_says(self, context: Context) -> None:
        """Valid, spoiled, cut off, fragments, errors, noise: no crash, nothing foreign changed."""
        runner = self.crowd(context)
        corpus = Corpus(SEED, runner)
        frames = (corpus.draw() for _ in range(self.packets))

        seen = compare(runner, self.model_of(runner), frames, about=f"seed {SEED}")

        least = self.packets // 50
        assert seen[Reason.FORWARDED.name] > least, seen
        assert seen[Reason.PASS_FOREIGN.name] > least, seen
        assert seen[Reason.PASS_UNPARSABLE.name] > least, seen

    @of_kinds("tcp4", "udp4", "tcp6", "udp6")
    def test_packets_of_9000_bytes_are_carried(self, kind: str) -> None:
        """At an MTU of 9,000 frames lie in several pages: only headers may be touched."""
        rule = "Frames of several pages are forwarded like others, and not cut."
        play = Play.start(self.jumbo(), self.services[kind])
        head = len(play.talk.to_vip()) - 14
        small = play.talk.to_vip()
        grown = len(self.demand(play, small, rule, Reason.FORWARDED).data) - len(small)
        body = bytes(range(256)) * 36
        data = play.talk.to_vip(payload=body[: JUMBO - head - grown])

        outcome = self.demand(play, data, rule, Reason.FORWARDED)

        if len(outcome.data) != JUMBO + 14:
            broken(rule, data, PUBLIC, outcome, f"must have {JUMBO + 14} bytes then")

    def test_planning_again_writes_nothing(self) -> None:
        """A plan is made whenever anything changes, so it must cost nothing when nothing did."""
        runner = self.runner("xdp")
        forwarder = runner.forwarder
        runner.replan()
        written: list[str] = []
        maps = {name: CountingMap(one, written) for name, one in runner.maps.items()}

        wanted = forwarder.plan(runner.view(), maps)

        assert written == [], f"a second plan wrote again: {written[:5]}"
        for name, entries in wanted.items():
            held = {repr(key): leaf for key, leaf in runner.maps[name].items()}
            differing = [key for key, leaf in entries if _differ(held.get(repr(key)), leaf)]
            assert differing == [], f"plan() wants another {name} than before: {differing[:5]}"

    @pytest.mark.parametrize("mode", ["auto", "generic", "tc"])
    def test_nothing_stays_after_detaching(self, mode: str) -> None:
        """Programs come off all interfaces, and what was set up for them goes too."""
        if mode == "tc" and not self.forwarder.supports_tc:
            mode = "native"
        runner = self.runner(self.contexts[-1])
        pins = sorted(path.name for path in runner.sandbox.pins.iterdir())

        attached = runner.sandbox.run(lambda: trio.run(_attached_and_detached, runner, mode))

        assert attached == [True, True], "the programs were not attached"
        assert runner.sandbox.run(_programs_of, runner) == []
        assert "clsact" not in runner.sandbox.command("tc", "qdisc", "show")
        assert pins == sorted(path.name for path in runner.sandbox.pins.iterdir())

    def test_programs_fit(
        self, context: Context, record_property: Callable[[str, object], None]
    ) -> None:
        """Stack and instructions of every program; `pytest` prints them at its end."""
        runner = self.runner(context)
        for function, program in runner.compiled.programs.items():
            size = measure(program.pin)
            record_property(f"galelb program {type(self).__name__} {function}", str(size))

            assert size.stack <= STACK, f"{function}: {size}"
            assert size.instructions > 0


def _differ(held: Any, wanted: Any) -> bool:
    """Whether a map does not hold what a plan wants; fields that it does not name are free."""
    if isinstance(held, dict) and isinstance(wanted, dict):
        return any(_differ(held.get(name), value) for name, value in wanted.items())
    if isinstance(held, tuple) or isinstance(wanted, tuple):
        return held is None or tuple(held) != tuple(wanted)
    return bool(held != wanted)


def _programs_of(runner: PacketRunner) -> list[object]:
    interfaces = (runner.world.public, runner.world.private)
    return [state for one in interfaces if (state := query_xdp(one.ifindex)) is not None]


async def _attached_and_detached(runner: PacketRunner, mode: str) -> list[bool]:
    """Attach as a balancer does and take it off again; returns what was attached, by interface."""
    programs = runner.compiled.programs
    tc = programs["gale_tc_entry"].pin if "gale_tc_entry" in programs else None
    entries = Entries(xdp=programs["gale_xdp_entry"].pin, tc=tc, tc_possible=tc is not None)
    wanted = {PUBLIC: "public", PRIVATE: "private"}
    async with open_netlink() as netlink:
        attacher = Attacher(netlink, Plugins(), xdp_mode=mode, wanted=wanted)
        await attacher.attach_all(entries)
        modes = [status.mode is not None for status in attacher.statuses()]
        await attacher.detach_all()
    return modes
