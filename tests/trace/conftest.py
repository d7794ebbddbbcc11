# SPDX-License-Identifier: Apache-2.0
"""Runs `galelb trace` on packets of a test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from scapy.all import Packet, RawPcapReader

from galelb.cli import run
from galelb.pcap import PcapWriter

WHEN_NS = 1_700_000_000_250_000_000
INTERFACES = """
[private_interface]
net_interface_private = "{private}"
[public_interface]
net_interface_public = "{public}"
"""


@attrs.define
class Tracing:
    """A folder with a configuration; `trace` runs the command and returns what it printed."""

    folder: Path
    capsys: pytest.CaptureFixture[str]
    code: int = 0
    err: str = ""
    out: str = ""

    @property
    def config(self) -> Path:
        return self.folder / "lb.toml"

    def configure(self, text: str, *, public: str = "eth1", private: str = "eth0") -> None:
        self.config.write_text(INTERFACES.format(public=public, private=private) + text)

    def run(self, packets: Sequence[Packet | bytes] | bytes, *options: str) -> None:
        pcap = self.folder / "in.pcap"
        if isinstance(packets, bytes):
            pcap.write_bytes(packets)
        else:
            with PcapWriter(pcap) as file:
                for one in packets:
                    file.write(WHEN_NS, bytes(one))
        command = ["trace", "--pcap", str(pcap), "--config", str(self.config), *options]
        self.code = run(command)
        self.out, self.err = self.capsys.readouterr()

    def trace(self, packets: Sequence[Packet | bytes], *options: str) -> list[dict[str, Any]]:
        """Return the objects of --json; the frames in them are those of --out."""
        sent = self.folder / "out.pcap"
        self.run(packets, *options, "--json", "--out", str(sent))
        assert self.code == 0, self.err
        found = [json.loads(line) for line in self.out.splitlines()]
        frames = [one["out"]["data"] for one in found if one["out"]]
        with RawPcapReader(str(sent)) as reader:
            assert frames == [data.hex() for data, _ in reader]
        return found


@pytest.fixture
def tracing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Tracing:
    return Tracing(tmp_path, capsys)
