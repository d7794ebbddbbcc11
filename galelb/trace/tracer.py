# SPDX-License-Identifier: Apache-2.0
"""Runs frames through programs that were compiled for a trace, and reads what they noted."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

import attrs

from galelb.abi import NO_TABLE, NodeFlag, Reason, TraceStep
from galelb.bpf.syscalls import obj_get
from galelb.bpf.testrun import RunResult, run_xdp
from galelb.datapath.programs import Generation
from galelb.errors import BpfError
from galelb.model import IPAddress
from galelb.packing import address_from_words
from galelb.pcap import Record
from galelb.trace.frames import Frame, ethernet
from galelb.trace.layers import layers
from galelb.trace.steps import RawStep, Recorder, Recording
from galelb.trace.values import Place, Step, Trace

__all__ = ["Run", "Tracer"]

VERDICTS = {0: "XDP_ABORTED", 1: "XDP_DROP", 2: "XDP_PASS", 3: "XDP_TX", 4: "XDP_REDIRECT"}
_SENT = ("XDP_TX", "XDP_REDIRECT")
_REPLIES = {1: "time_exceeded", 2: "too_big", 3: "reset"}  # GALE_REPLY_*


Run = Callable[[Callable[[], RunResult]], RunResult]
"""Calls a function in the network namespace where the interfaces are."""


class Tracer:
    """Traces packets, one after the other, with the state that the ones before left.

    A context manager; the generation stays the caller's.
    """

    def __init__(self, generation: Generation, place: Place, run: Run, ingress: str = "") -> None:
        """`ingress` is the interface that all packets come in by; "" decides for each."""
        self._place = place
        self._run = run
        self._ingress = ingress
        self._maps = generation.maps
        self._slow = generation.slow_programs
        self._entry = obj_get(generation.entries.xdp)
        self._recorder = Recorder(generation.maps["gale_trace"])
        self._nodes = _addresses(generation)

    def __enter__(self) -> Tracer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._recorder.close()
        os.close(self._entry)

    def trace(self, record: Record) -> Trace:
        """Run one packet. What cannot be run is a trace with a problem, not an error."""
        frame = ethernet(record, self._place.public.mac, self._place.client_mac)
        ingress = self._ingress_of(record, frame.data)
        trace = Trace(
            number=record.number,
            time_ns=record.time_ns,
            frame=frame.data,
            in_interface=ingress,
            notes=frame.notes,
            problem=frame.problem,
        )
        if frame.problem:
            return trace
        self._recorder.start()
        try:
            result = self._run(lambda: self._test_run(frame.data, ingress))
        except BpfError as error:
            return attrs.evolve(trace, problem=str(error))
        return self._traced(trace, frame, result, self._recorder.read())

    def _test_run(self, data: bytes, ingress: str) -> RunResult:
        return run_xdp(self._entry, data, ingress_ifindex=self._place.interfaces[ingress].ifindex)

    def _ingress_of(self, record: Record, frame: bytes) -> str:
        """Return the interface that a frame comes in by.

        That is the one that a balancer saw it on, else the one whose MAC address it is for, else
        the nodes' for what nodes send.
        """
        place = self._place
        if self._ingress:
            return self._ingress
        if record.by_galelb and record.interface in place.interfaces:
            return record.interface
        for one in place.interfaces.values():
            if frame[:6].hex(":") == one.mac:
                return one.name
        sender = next((str(x.fields["src"]) for x in layers(frame) if x.name in ("ip", "ip6")), "")
        from_node = any(sender == str(address) for address in place.nodes)
        return place.private.name if from_node else place.public.name

    def _traced(self, trace: Trace, frame: Frame, result: RunResult, recording: Recording) -> Trace:
        verdict = VERDICTS.get(result.verdict, str(result.verdict))
        left = recording.last(TraceStep.EXIT)
        reason, service, node = left.value[1:4] if left else (None, 0, 0)
        lost = [f"{recording.lost} more steps were taken"] if recording.lost else []
        sent = verdict in _SENT
        return attrs.evolve(
            trace,
            notes=[*trace.notes, *lost],
            verdict=verdict,
            reason=None if reason is None else Reason(reason),
            service=self._place.services.get(service),
            node=self._nodes.get(node),
            out_interface=self._way_out(verdict, trace.in_interface, recording),
            out=_cut(result.data, frame.padding) if sent else None,
            out_length=len(result.data) if sent else None,
            steps=[self._step(step, recording) for step in recording.steps],
        )

    def _way_out(self, verdict: str, ingress: str, recording: Recording) -> str | None:
        if verdict == "XDP_TX":
            return ingress
        to = recording.last(TraceStep.REDIRECT)
        if verdict != "XDP_REDIRECT" or to is None:
            return None
        return self._place.interface_name(to.value[0])

    def _step(self, step: RawStep, recording: Recording) -> Step:
        facts: dict[str, Any] = {}
        value = step.value
        match step.what:
            case TraceStep.PARSED:
                facts = _parsed(value[0], recording)
            case TraceStep.SERVICE | TraceStep.QUOTED:
                facts = {"service": self._name(value[0])}
            case TraceStep.PROGRAM:
                facts = {"program": self._slow.get(value[0], str(value[0]))}
            case TraceStep.SLOT:
                facts = self._slot(value)
            case TraceStep.FLOW | TraceStep.FLOW_MADE:
                facts = {"port": value[0]}
            case TraceStep.NEXT_HOP:
                facts = self._hop(value)
            case TraceStep.REPLY:
                facts = {"kind": _REPLIES.get(value[0], value[0]), "mtu": value[1] or None}
            case TraceStep.REDIRECT:
                facts = {"interface": self._place.interface_name(value[0])}
            case TraceStep.EXIT:
                facts = self._exit(value)
        return Step(step.what.name.lower(), facts)

    def _name(self, service: int) -> str | None:
        found = self._place.services.get(service)
        return found.name if found else (f"number {service}" if service else None)

    def _address(self, node: int) -> str | None:
        address = self._nodes.get(node)
        return str(address) if address else (f"number {node}" if node else None)

    def _slot(self, value: tuple[int, ...]) -> dict[str, Any]:
        has_table = value[2] != NO_TABLE
        return {
            "hash": value[0],
            "slot": value[1] if has_table else None,
            "slots": self._place.table_size,
            "node": self._address(value[3]),
        }

    def _hop(self, value: tuple[int, ...]) -> dict[str, Any]:
        macs = b"".join(word.to_bytes(4, sys.byteorder) for word in value[2:5])
        return {
            "interface": self._place.interface_name(value[0]),
            "dst_mac": macs[:6].hex(":"),
            "src_mac": macs[6:].hex(":"),
            "mtu": value[1],
        }

    def _exit(self, value: tuple[int, ...]) -> dict[str, Any]:
        return {
            "verdict": VERDICTS.get(value[0], value[0]),
            "reason": Reason(value[1]).name.lower(),
            "service": self._name(value[2]),
            "node": self._address(value[3]),
        }


def _parsed(result: int, recording: Recording) -> dict[str, Any]:
    """Return what the program read: addresses and ports, unless it could not read it."""
    if result:
        return {"readable": result == 1}  # GALE_EXTENSIONS: IPv6 headers to walk come first
    packet = recording.packet
    return {
        "readable": True,
        "family": packet["family"],
        "protocol": packet["protocol"],
        "src": _words(packet["saddr"], packet["family"]),
        "dst": _words(packet["daddr"], packet["family"]),
        "sport": int.from_bytes(packet["sport"].to_bytes(2, sys.byteorder), "big"),
        "dport": int.from_bytes(packet["dport"].to_bytes(2, sys.byteorder), "big"),
        "vlan": packet["vlan"] if packet["tags"] < 2 else None,
        "tags": packet["tags"],
        "fragment": {1: "first", 2: "later"}.get(packet["flags"] & 3),
        "icmp_error": bool(packet["flags"] & 4),
        "ttl": packet["ttl"],
    }


def _words(words: tuple[int, ...], family: int) -> str:
    padded = (*words, 0, 0, 0)[:4]
    return str(address_from_words(padded, family))


def _cut(data: bytes, padding: int) -> bytes:
    """Take off what was not captured; an answer of ours, which is shorter, has none of it."""
    return data[: len(data) - padding] if padding and not any(data[-padding:]) else data


def _addresses(generation: Generation) -> dict[int, IPAddress]:
    """Return the nodes' addresses by number."""
    found: dict[int, IPAddress] = {}
    for number, leaf in generation.maps["gale_nodes"].items():
        if leaf["flags"] & NodeFlag.PRESENT:
            family = 6 if leaf["flags"] & NodeFlag.IPV6 else 4
            found[number] = address_from_words(leaf["addr"], family)
    return found
