# SPDX-License-Identifier: Apache-2.0
"""Lines for systemd's journal."""

import io
import logging
import os

import pytest
import structlog

from galelb.journal import goes_to_journal, prioritised
from galelb.logs import configure_logging


def named(stream):
    status = os.fstat(stream.fileno())
    return {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}


def test_a_stream_that_the_journal_reads_is_known_by_its_inode(tmp_path):
    with (tmp_path / "a").open("w") as stream, (tmp_path / "b").open("w") as other:
        assert goes_to_journal(stream, named(stream))
        assert not goes_to_journal(other, named(stream))


@pytest.mark.parametrize("text", ["", "1", "a:b", "1:2:3"])
def test_what_names_no_stream_names_none(tmp_path, text):
    with (tmp_path / "a").open("w") as stream:
        assert not goes_to_journal(stream, {"JOURNAL_STREAM": text})
    assert not goes_to_journal(io.StringIO(), {"JOURNAL_STREAM": "1:2"})


def test_each_line_has_the_severity():
    assert "<3>one\n<3>two" == prioritised("error", "one\ntwo")
    assert "<6>x" == prioritised("info", "x")
    assert "<7>x" == prioritised("debug", "x")


def test_log_lines_for_the_journal_have_a_severity_and_no_time(tmp_path, monkeypatch):
    with (tmp_path / "log").open("w+") as stream:
        monkeypatch.setenv("JOURNAL_STREAM", named(stream)["JOURNAL_STREAM"])
        configure_logging(stream=stream)
        structlog.get_logger().warning("careful")
        structlog.get_logger().info("fine")
        logging.getLogger("some.library").error("bad")
        stream.seek(0)
        lines = stream.read().splitlines()

    assert ["<4>level=warning event=careful", "<6>level=info event=fine"] == lines[:2]
    assert lines[2].startswith("<3>level=error event=bad")


def test_other_streams_get_the_time_and_no_severity(tmp_path, monkeypatch):
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    stream = io.StringIO()
    configure_logging(stream=stream)

    structlog.get_logger().info("fine")

    assert stream.getvalue().startswith("timestamp=")
