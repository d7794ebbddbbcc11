# SPDX-License-Identifier: Apache-2.0
"""Logging: one line per event, in the form that its reader wants."""

import io
import json
import logging

import pytest
import structlog

from galelb.logs import configure_logging


@pytest.fixture
def stream():
    """Where the logs go; everything is as before afterwards (tests/conftest.py)."""
    return io.StringIO()


def log_an_error(stream, **kwargs):
    configure_logging(stream=stream, **kwargs)
    log = structlog.get_logger("x")
    log.debug("too_quiet")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("it_failed", what='a "quoted" thing')
    return stream.getvalue().splitlines()


def test_logfmt_is_one_line_per_event(stream):
    (line,) = log_an_error(stream)

    assert "event=it_failed" in line
    assert "ValueError: two" in line


def test_logfmt_says_true_and_writes_lists_with_commas(stream):
    configure_logging(stream=stream)

    structlog.get_logger().info("ready", adopted=True, addresses=["192.0.2.1", "192.0.2.2"])

    line = stream.getvalue()
    assert "adopted=true" in line
    assert "addresses=192.0.2.1,192.0.2.2" in line


def test_json_is_one_object_per_line(stream):
    (line,) = log_an_error(stream, json=True)

    assert 'a "quoted" thing' == json.loads(line)["what"]


def test_libraries_log_in_the_same_form(stream):
    configure_logging(stream=stream, json=True)

    logging.getLogger("some.library").warning("hello %s", "you")
    logging.getLogger("some.library").info("too quiet")

    (line,) = stream.getvalue().splitlines()
    assert ("hello you", "some.library") == (json.loads(line)["event"], json.loads(line)["logger"])


def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="log level must be one of"):
        configure_logging("loud")
