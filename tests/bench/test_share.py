# SPDX-License-Identifier: Apache-2.0
"""The benchmark of sharing runs, and refuses a result in which a flow is missing."""

import pytest
import structlog

from bench import share
from bench.machine import RefusedError
from galelb.flowshare import Accepted

pytestmark = pytest.mark.bpf


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(share, "FLOWS", 2000)
    monkeypatch.setattr(share, "NEW_PER_S", 1000)
    monkeypatch.setattr(share, "_STEPS", 3)
    monkeypatch.setattr(share, "_ROOM", 1 << 16)
    yield
    structlog.reset_defaults()


def test_it_measures_both(capsys):
    result = share.run()

    assert "2,000 flows to a joiner" in share.describe(result)
    assert {"join_s", "join_cpu_s", "cores", "lag_s"} < result.keys()
    assert capsys.readouterr().out == ""


def test_it_refuses_flows_that_got_lost(monkeypatch):
    from galelb_plugins.l4_nat.share import NatShare

    monkeypatch.setattr(NatShare, "accept", lambda self, batch: Accepted())

    with pytest.raises((RefusedError, ExceptionGroup)) as caught:
        share.run()
    assert "0 flows came" in repr(caught.value)
