# SPDX-License-Identifier: Apache-2.0
"""What `galelb lab up` and `status` print for people."""

from __future__ import annotations

import attrs
import pytest

from galelb.lab.tables import print_lab


@attrs.frozen
class FakeState:
    """A lab of one balancer and one client."""

    def public(self) -> dict[str, object]:
        host = {"addresses": ["203.0.113.11"], "pids": [1], "running": True}
        balancer = host | {
            "role": "balancer",
            "name": "lb1",
            "namespace": "x-lb1",
            "config": "/run/galelb-lab/first/lb1.lb.toml",
        }
        client = host | {"role": "client", "name": "client1", "namespace": "x-c1", "config": None}
        vip = {"address": "203.0.113.11", "port": 80, "protocol": "tcp", "service": "default"}
        return {
            "name": "first",
            "plugin": "l4_nat",
            "directory": "/run/galelb-lab/first",
            "hosts": [client, balancer],
            "vips": [vip],
        }


def test_a_lab_says_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    print_lab(FakeState(), as_json=False)  # type: ignore[arg-type]

    assert [
        "try:   galelb lab exec --name first client1 -- curl -s http://203.0.113.11:80/",
        "see:   galelb status --config /run/galelb-lab/first/lb1.lb.toml",
        "end:   galelb lab down first",
    ] == capsys.readouterr().out.splitlines()[-3:]
